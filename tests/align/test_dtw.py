"""smoke"""
import numpy as np
import sensorium.align as align
def test_smoke() -> None:
    found = align.dtw([0.0, 1.0, 2.0], [0.0, 0.0, 1.0, 2.0])
    assert found.path.tolist() == [[0, 0], [0, 1], [1, 2], [2, 3]]
    x = np.random.default_rng(0).standard_normal((61, 13)).astype(np.float32)
    for s in ("symmetric1", "asymmetric", "rabiner-juang-4c", "rabiner-juang-7ds"):
        for w in (None, 7, align.Slanted(3), align.Itakura(2.0)):
            got = align.dtw(x, x[:59], step=s, window=w, open_end=True)
            assert ((got.confidence >= 0) & (got.confidence <= 1)).all()
            assert np.isclose((got._costs.at(*got.path.T) * got.weights).sum(), got.distance, rtol=1e-4, atol=1e-4)
    assert align.dtw_matrix([x, x[3:]]).shape == (2, 2)
