// What a launch says when it fails: kernel, source line, block, thread, and what was found.
#include <algorithm>
#include <map>

#include "block.h"

namespace gpukit_emulator {

static std::string text(const Index& i) {
    return "(" + std::to_string(i.x) + "," + std::to_string(i.y) + "," + std::to_string(i.z) + ")";
}

std::string Worker::place(unsigned t) const { return "thread " + text(position(t)); }

std::string Worker::lanes(unsigned mask) const {
    std::string list;
    int count = 0;
    for (int lane = 0; lane < 32;) {
        if (!(mask >> lane & 1)) {
            ++lane;
            continue;
        }
        int end = lane;
        while (end + 1 < 32 && (mask >> (end + 1) & 1)) ++end;
        list += (list.empty() ? "" : ", ") + std::to_string(lane);
        if (end > lane) list += "-" + std::to_string(end);
        count += end - lane + 1;
        lane = end + 1;
    }
    return (count == 1 ? "lane " : "lanes ") + list;
}

// The first to come with `failed` newly set writes the message of the launch.
void Worker::report(unsigned t, const char* file, int line, const std::string& what) {
    launch->failed = true;
    if (launch->told.exchange(true)) return;
    std::string message = launch->kernel;
    if (*file) message += " at " + std::string(file) + ":" + std::to_string(line);
    message += ", block " + text(now.block) + ", " + place(t) + ": " + what;
    snprintf(launch->message, launch->message_size, "%s", message.c_str());
}

void Worker::fail(const char* file, int line, const char* what) {
    {
        Unwatched here;
        report(current, file, line, what);
    }
    stop();
    abort();
}

void Worker::refuse(const char* file, int line, const char* format, ...) {
    char what[512];
    va_list list;
    va_start(list, format);
    vsnprintf(what, sizeof what, format, list);
    va_end(list);
    fail(file, line, what);
}

// Nobody can go on: say who waits where, and for whom.
void Worker::report_stuck() {
    struct Crowd {
        unsigned first, count;
    };
    std::map<std::string, Crowd> waiting;
    unsigned gone = 0, at_barrier = 0, first_gone = 0, first_waiting = n_;
    for (unsigned t = 0; t < n_; ++t) {
        const Thread& thread = threads_[t];
        if (thread.state == State::GONE) {
            if (!gone++) first_gone = t;
            continue;
        }
        first_waiting = std::min(first_waiting, t);
        at_barrier += thread.state == State::AT_BARRIER;
        std::string where = std::string(thread.what) + " in line " + std::to_string(thread.line);
        if (thread.state == State::IN_WARP) {
            char mask[16];
            snprintf(mask, sizeof mask, "0x%08x", thread.mask);
            where += " with mask " + std::string(mask);
        }
        auto found = waiting.try_emplace(where, Crowd{t, 0}).first;
        ++found->second.count;
    }
    const bool barrier_only = at_barrier && at_barrier + gone == n_;
    std::string what = barrier_only ? "divergent barrier: " : "deadlock: ";
    for (const auto& [where, crowd] : waiting) {
        if (what.back() != ' ') what += ", ";
        what += std::to_string(crowd.count) + " threads wait in " + where + " (first " +
                place(crowd.first) + ")";
        if (what.size() > 900) break;
    }
    if (gone)
        what += ", " + std::to_string(gone) + " have left the kernel (first " + place(first_gone) + ")";
    const Thread& first = threads_[first_waiting];
    if (first.state == State::IN_WARP) {
        const Warp& warp = warps_[first_waiting / 32];
        for (int g = 0; g < warp.groups; ++g)
            if (warp.group[g].mask >> first_waiting % 32 & 1)
                what += "; " + lanes(warp.group[g].mask & warp.existing & ~warp.gone &
                                     ~warp.group[g].arrived) +
                        " of warp " + std::to_string(first_waiting / 32) + " never came";
    }
    report(first_waiting, first.file, first.line, what);
}

}  // namespace gpukit_emulator
