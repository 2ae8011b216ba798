"""docs/keras.md says of every name of Keras for CNN work whether gpukit has it, and is right."""

import importlib
import re
from pathlib import Path

import pytest

TABLE = Path(__file__).parents[2] / "docs" / "keras.md"

# Public names of Keras 3 by module, from its API documentation; recurrent layers, attention and
# text are left out as modules, and said so in the table.
KERAS = {
    "layers": """
        Layer Input InputLayer Dense Activation Flatten Reshape Permute RepeatVector Lambda Masking
        Identity Embedding EinsumDense Conv1D Conv2D Conv3D SeparableConv1D SeparableConv2D
        DepthwiseConv1D DepthwiseConv2D Conv1DTranspose Conv2DTranspose Conv3DTranspose
        MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D
        GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GlobalAveragePooling1D
        GlobalAveragePooling2D GlobalAveragePooling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
        Cropping1D Cropping2D Cropping3D UpSampling1D UpSampling2D UpSampling3D BatchNormalization
        LayerNormalization GroupNormalization UnitNormalization SpectralNormalization
        RMSNormalization Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D GaussianDropout
        GaussianNoise AlphaDropout ActivityRegularization Add Subtract Multiply Average Maximum
        Minimum Concatenate Dot ReLU Softmax LeakyReLU PReLU ELU RandomFlip RandomCrop
        RandomRotation RandomZoom RandomTranslation RandomContrast RandomBrightness RandomHue
        RandomSaturation RandomColorJitter RandomErasing RandomShear RandAugment AugMix CutMix
        MixUp Rescaling Resizing CenterCrop Normalization LSTM GRU SimpleRNN ConvLSTM2D
        Bidirectional TimeDistributed MultiHeadAttention Attention TextVectorization
        StringLookup IntegerLookup Hashing Discretization CategoryEncoding TFSMLayer""",
    "losses": """
        Loss BinaryCrossentropy BinaryFocalCrossentropy CategoricalCrossentropy
        CategoricalFocalCrossentropy SparseCategoricalCrossentropy Poisson KLDivergence
        MeanSquaredError MeanAbsoluteError MeanAbsolutePercentageError MeanSquaredLogarithmicError
        CosineSimilarity Huber LogCosh Hinge SquaredHinge CategoricalHinge Tversky Dice CTC Circle
        CategoricalGeneralizedCrossEntropy""",
    "metrics": """
        Metric Accuracy BinaryAccuracy CategoricalAccuracy SparseCategoricalAccuracy
        TopKCategoricalAccuracy SparseTopKCategoricalAccuracy AUC Precision Recall TruePositives
        TrueNegatives FalsePositives FalseNegatives PrecisionAtRecall RecallAtPrecision
        SensitivityAtSpecificity SpecificityAtSensitivity F1Score FBetaScore IoU BinaryIoU
        OneHotIoU OneHotMeanIoU MeanIoU Mean Sum MeanMetricWrapper MeanSquaredError
        RootMeanSquaredError MeanAbsoluteError MeanAbsolutePercentageError
        MeanSquaredLogarithmicError CosineSimilarity LogCoshError R2Score BinaryCrossentropy
        CategoricalCrossentropy SparseCategoricalCrossentropy KLDivergence Poisson Hinge
        SquaredHinge CategoricalHinge""",
    "optimizers": """
        Optimizer SGD RMSprop Adam AdamW Adadelta Adagrad Adamax Adafactor Nadam Ftrl Lion Lamb
        Muon LossScaleOptimizer""",
    "optimizers.schedules": """
        LearningRateSchedule ExponentialDecay PiecewiseConstantDecay PolynomialDecay
        InverseTimeDecay CosineDecay CosineDecayRestarts""",
    "initializers": """
        Initializer RandomNormal RandomUniform TruncatedNormal Zeros Ones Constant GlorotNormal
        GlorotUniform HeNormal HeUniform LecunNormal LecunUniform Orthogonal Identity
        VarianceScaling STFT""",
    "regularizers": "Regularizer L1 L2 L1L2 OrthogonalRegularizer",
    "constraints": "Constraint MaxNorm MinMaxNorm NonNeg UnitNorm",
    "callbacks": """
        Callback CallbackList History LambdaCallback EarlyStopping ModelCheckpoint
        ReduceLROnPlateau LearningRateScheduler CSVLogger TerminateOnNaN BackupAndRestore
        RemoteMonitor TensorBoard ProgbarLogger SwapEMAWeights""",
    "models": """
        Model Sequential load_model save_model clone_model model_from_json""",
    "utils": """
        to_categorical set_random_seed PyDataset Sequence image_dataset_from_directory load_img
        img_to_array array_to_img save_img plot_model get_file normalize split_dataset
        register_keras_serializable custom_object_scope timeseries_dataset_from_array""",
}


def rows():
    """{module: {name: answer}} of the document."""
    found, module = {}, ""
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"## `keras\.([\w.]+)`", line):
            module = heading[1]
            found[module] = {}
        elif module and line.startswith("| `"):
            names, answer, note = (cell.strip() for cell in line.strip("|").split("|"))
            for name in re.findall(r"`(\w+)`", names):
                assert name not in found[module], f"{module}.{name} is in two rows"
                found[module][name] = answer
            assert note or answer == "has", line
    return found


@pytest.mark.parametrize("module", KERAS)
def test_the_table_has_every_name_and_is_right(module):
    answers = rows()[module]
    assert set(answers) == set(KERAS[module].split())
    here = importlib.import_module(f"gpukit.{module.split('.')[-1]}")
    for name, answer in answers.items():
        assert answer in ("has", "differs", "not yet", "stays out", "refused"), name
        assert hasattr(here, name) == (answer in ("has", "differs", "refused")), (name, answer)
