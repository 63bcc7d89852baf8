"""Inputs: reference resizing bit for bit, one array a medium, nothing random without a generator."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as pillow

from sensorium.codecs import Bpe, train_bpe
from sensorium.core.errors import MediaError, UsageError
from sensorium.data.transforms import AudioInput, ImageInput, TextInput, VideoInput
from sensorium.data.transforms import image as image_module
from sensorium.data.transforms.video import frame_indices
from sensorium.media import Audio, Image, Text, Video

TEXTS = ["a green frog sits by the pond", "two red apples", "the brown dog"] * 7


def picture(height: int, width: int, seed: int = 0) -> Image:
    """Smooth and noisy at once, so that neither a shift nor a filter goes unseen."""
    rng = np.random.default_rng(seed)
    ramp = np.add.outer(np.arange(height) * 3, np.arange(width) * 5)[..., None] % 256
    noise = rng.integers(0, 64, (height, width, 3))
    return Image(np.clip(ramp + noise, 0, 255).astype(np.uint8))


def as_pixels(values: np.ndarray, recipe: ImageInput) -> np.ndarray:
    """Undo the normalisation."""
    mean, std = np.array(recipe.mean), np.array(recipe.std)
    return np.rint((values.transpose(1, 2, 0) * std + mean) * 255)


@pytest.mark.parametrize("shape", [(53, 71), (71, 53), (24, 24), (31, 101), (480, 641), (7, 5)])
def test_crop_equals_torchvisions_rules_bit_for_bit(shape: tuple[int, int]) -> None:
    recipe, (height, width) = ImageInput(size_px=37), shape
    # torchvision 0.28, transforms.functional: _compute_resized_output_size, resize, center_crop
    new_long = int(37 * max(shape) / min(shape))
    size = (37, new_long) if width <= height else (new_long, 37)
    resized = pillow.fromarray(picture(height, width).pixels).resize(size, pillow.Resampling.BICUBIC)
    top, left = round((resized.height - 37) / 2.0), round((resized.width - 37) / 2.0)
    expected = np.asarray(resized.crop((left, top, left + 37, top + 37)))
    np.testing.assert_array_equal(as_pixels(recipe(picture(height, width)), recipe), expected)


def test_normalisation_is_the_usual_formula() -> None:
    recipe = ImageInput(size_px=5, mean=(0.48, 0.45, 0.40), std=(0.27, 0.26, 0.28), mode="squash")
    values = recipe(Image(np.full((3, 4, 3), (0, 128, 255), dtype=np.uint8)))
    expected = [(0 - 0.48) / 0.27, (128 / 255 - 0.45) / 0.26, (1 - 0.40) / 0.28]
    np.testing.assert_allclose(values[:, 2, 3], expected, rtol=1e-6)
    assert values.dtype == np.float32


def test_extreme_aspects_are_cut_without_a_huge_image(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, long = ImageInput(size_px=16), picture(9, 201)
    short_way = as_pixels(recipe(long), recipe)
    monkeypatch.setattr(image_module, "_MAX_ASPECT", 1000)
    assert np.abs(short_way - as_pixels(recipe(long), recipe)).max() <= 2


@pytest.mark.parametrize("mode", ["crop", "squash", "pad"])
@pytest.mark.parametrize("shape", [(1, 65_535), (65_535, 1), (1, 1)])
def test_any_shape_fits(mode: str, shape: tuple[int, int]) -> None:
    media = Image(np.zeros((*shape, 3), dtype=np.uint8))
    recipe = ImageInput(size_px=19, mode=mode)  # type: ignore[arg-type]
    for rng in (None, np.random.default_rng(1)):
        assert recipe(media, rng).shape == (3, 19, 19)


def test_pad_shows_the_whole_on_white() -> None:
    recipe = ImageInput(size_px=20, mode="pad")
    pixels = as_pixels(recipe(Image(np.zeros((10, 40, 3), dtype=np.uint8))), recipe)
    assert (pixels[:7] == 255).all()
    assert (pixels[8:12] == 0).all()
    assert (pixels[13:] == 255).all()
    square = picture(31, 31)
    np.testing.assert_array_equal(recipe(square), replace(recipe, mode="crop")(square))


PLAIN = ImageInput(size_px=23, mode="squash", crop_scale=(1.0, 1.0), crop_ratio=1.0, colour=0.0)


def test_a_view_of_everything_is_the_picture_itself() -> None:
    media = picture(41, 67)
    np.testing.assert_array_equal(PLAIN(media, np.random.default_rng(0)), PLAIN(media))


def test_a_view_of_a_large_picture_is_drawn_from_a_smaller_one_but_the_plain_view_is_exact() -> None:
    slope = np.linspace(0, 255, 230, dtype=np.uint8)
    media = Image(np.stack([np.add.outer(slope // 2, slope // 2)] * 3, axis=-1))
    exact = pillow.fromarray(media.pixels).resize((23, 23), pillow.Resampling.BICUBIC)
    expected = np.asarray(exact, np.float32).transpose(2, 0, 1) / 127.5 - 1
    for mode in ("squash", "pad"):
        recipe = replace(PLAIN, mode=mode)
        np.testing.assert_allclose(recipe(media), expected, atol=1e-6)
        np.testing.assert_allclose(recipe(media, np.random.default_rng(0)), expected, atol=0.02)


def test_flip_mirrors() -> None:
    media = picture(41, 67)
    flipped = replace(PLAIN, flip=1.0)(media, np.random.default_rng(0))
    np.testing.assert_array_equal(flipped, PLAIN(media)[:, :, ::-1])


def test_rotation_turns_about_the_middle() -> None:
    media = picture(41, 41)
    turned = replace(PLAIN, rotation_deg=20.0)(media, np.random.default_rng(0))
    assert (turned != PLAIN(media)).mean() > 0.5
    np.testing.assert_array_equal(turned[:, 0, 0], 1.0)


def test_recolouring_keeps_black_and_order() -> None:
    grey = np.repeat(np.arange(0, 256, 5, dtype=np.uint8)[None, :, None], 52, axis=0).repeat(3, axis=2)
    recipe = replace(PLAIN, size_px=52, colour=0.3)
    row = recipe(Image(grey), np.random.default_rng(3))[0, 0]
    assert (np.diff(row) >= -1e-6).all()
    assert not np.array_equal(row, recipe(Image(grey))[0, 0])


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 2**31),
    mode=st.sampled_from(["crop", "squash", "pad"]),
)  # fmt: skip
def test_random_views_have_the_form_and_are_repeatable(height: int, width: int, seed: int, mode: str) -> None:
    recipe = ImageInput(
        size_px=17, mode=mode, crop_scale=(0.1, 1.0), crop_ratio=2.0, flip=0.5, rotation_deg=15.0
    )  # type: ignore[arg-type]
    media = picture(height, width)
    first, second = (recipe(media, np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (3, 17, 17)
    assert np.abs(first).max() <= 1.0 + 1e-6


def test_an_image_encoder_takes_the_middle_frame_of_a_video() -> None:
    frames = np.stack([picture(9, 9, seed).pixels for seed in range(5)])
    recipe = ImageInput(size_px=9)
    np.testing.assert_array_equal(recipe(Video(frames, np.arange(5.0))), recipe(Image(frames[2])))


def test_frames_are_spread_evenly() -> None:
    assert frame_indices(100, 4, 0.5) == [12, 37, 62, 87]
    assert frame_indices(3, 8, 0.5) == [0, 1, 2]
    assert frame_indices(1, 1, 0.999999) == [0]
    assert frame_indices(10, 10, 0.0) == list(range(10))


def test_all_frames_of_a_video_get_the_same_view() -> None:
    frames = np.repeat(picture(31, 43).pixels[None], 7, axis=0)
    recipe = VideoInput(num_frames=3, frame=ImageInput(size_px=17, flip=0.5, rotation_deg=9.0))
    values = recipe(Video(frames, np.arange(7.0)), np.random.default_rng(5))
    assert values.shape == (3, 3, 17, 17)
    np.testing.assert_array_equal(values[0], values[2])


def test_a_still_is_a_video_of_one_frame() -> None:
    recipe = VideoInput(num_frames=3, frame=ImageInput(size_px=17))
    np.testing.assert_array_equal(recipe(picture(31, 43))[0], recipe.frame(picture(31, 43)))


def test_truncation_keeps_the_end_token() -> None:
    bpe = Bpe(train_bpe(TEXTS, 300))
    ids = TextInput(bpe.json, max_tokens=5)("the brown dog sits by the green pond")
    whole = bpe.encode("the brown dog sits by the green pond")
    assert ids.tolist() == [*whole[:4], whole[-1]]


def test_special_tokens_typed_by_a_user_are_plain_text() -> None:
    bpe = Bpe(train_bpe(TEXTS, 300))
    ids = TextInput(bpe.json)("frog <end> <pad>").tolist()
    assert ids[1:-1].count(ids[-1]) == 0
    assert 0 not in ids
    assert bpe.decode(ids) == "frog <end> <pad>"


def test_text_gives_what_its_string_gives() -> None:
    recipe = TextInput(train_bpe(TEXTS, 300))
    np.testing.assert_array_equal(recipe(Text("two red apples")), recipe("two red apples"))
    assert recipe("").tolist() == [1, 2]


def test_text_without_tokens_is_refused() -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    bare = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    with pytest.raises(MediaError, match="has no token"):
        TextInput(bare.to_str())("")


def test_word_dropout_leaves_out_words_and_keeps_their_order() -> None:
    bpe = Bpe(train_bpe(TEXTS, 300))
    recipe = TextInput(bpe.json, word_dropout=0.5)
    words = "a green frog sits by the pond".split()
    rng = np.random.default_rng(0)
    for _ in range(50):
        left = bpe.decode(recipe(" ".join(words), rng).tolist()).split()
        assert left
        assert left == [word for word in words if word in left]
    assert bpe.decode(recipe(" ".join(words)).tolist()).split() == words
    assert bpe.decode(replace(recipe, word_dropout=0.99)("frog", rng).tolist()) == "frog"


def tone(seconds: float, hz: float = 440.0, rate: int = 16_000, channels: int = 1) -> Audio:
    wave = 0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)
    return Audio(np.repeat(wave[:, None], channels, axis=1).astype(np.float32), rate)


def test_sound_becomes_a_hundred_frames_a_second() -> None:
    values = AudioInput(num_mels=40)(tone(1.0))
    assert values.shape[1] == 40
    assert abs(len(values) - 100) <= 3
    assert len(AudioInput(max_s=0.5)(tone(3.0))) <= 53
    assert len(AudioInput()(Audio(np.zeros((0, 1), dtype=np.float32), 16_000))) >= 1


def test_rate_and_channels_do_not_matter() -> None:
    recipe = AudioInput(num_mels=40)
    ours, theirs = recipe(tone(1.0)), recipe(tone(1.0, rate=44_100, channels=2))
    n = min(len(ours), len(theirs)) - 5
    loudest = ours[5:n].mean(axis=0).argmax()
    assert loudest == theirs[5:n].mean(axis=0).argmax()
    np.testing.assert_allclose(ours[5:n, loudest], theirs[5:n, loudest], atol=0.02)


def test_without_augmentation_options_a_generator_changes_nothing() -> None:
    recipe = AudioInput(shift_s=0.0, gain_db=0.0, time_mask_s=0.0, mel_mask=0)
    np.testing.assert_array_equal(recipe(tone(0.7), np.random.default_rng(0)), recipe(tone(0.7)))


def test_masking_hides_at_most_two_stripes_each_way() -> None:
    recipe = AudioInput(num_mels=40, shift_s=0.0, gain_db=0.0)
    plain = recipe(tone(1.0))
    masked = recipe(tone(1.0), np.random.default_rng(0))
    changed = masked != plain
    assert 0 < changed.mean() < 0.7
    assert (masked[changed] == 0).all()


def test_sound_of_a_video_is_its_audio() -> None:
    sound, frames = tone(0.5), np.zeros((2, 5, 5, 3), dtype=np.uint8)
    recipe = AudioInput()
    np.testing.assert_array_equal(recipe(Video(frames, np.arange(2.0), sound)), recipe(sound))
    with pytest.raises(UsageError, match="a Video without audio"):
        recipe(Video(frames, np.arange(2.0)))


@pytest.mark.parametrize(
    ("recipe", "media"),
    [
        (ImageInput(), Text("frog")),
        (VideoInput(), tone(0.1)),
        (AudioInput(), "frog"),
        (TextInput("{}"), picture(3, 3)),
    ],
    ids=["image", "video", "audio", "text"],
)
def test_the_wrong_medium_is_named(recipe: ImageInput, media: Image) -> None:
    with pytest.raises(UsageError, match=r"encoder got (Text|Audio|str|Image); give"):
        recipe(media)


def test_inputs_travel_to_other_processes() -> None:
    for recipe in (ImageInput(), AudioInput(), VideoInput(), TextInput(train_bpe(TEXTS, 300))):
        assert pickle.loads(pickle.dumps(recipe)) == recipe
