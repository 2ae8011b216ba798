"""The embedded part of Fashion-MNIST (made by gpukit.data.make_embedded; MIT, LICENSE.txt)."""
