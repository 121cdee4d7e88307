"""One share of GPUs for each worker process."""

from dir_bench.sweeps import local


def test_gpus_are_shared_out():
    def seen(*arguments):
        return [slot.get("CUDA_VISIBLE_DEVICES") for slot in local.environments(*arguments)]

    assert seen(None, 1, 1, ["0", "1", "2"]) == ["0", "1", "2"]
    assert seen(None, 1, 2, ["0", "1", "2"]) == ["0,1"]
    assert seen(3, 1, 1, ["4", "6"]) == ["4", "6", "4"]
    assert seen(2, 1, 1, []) == [None, None]
    assert local.environments(1, 3, 1, [])[0]["OMP_NUM_THREADS"] == "3"


def test_the_gpus_of_a_job_are_those_that_the_scheduler_gave(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5a")
    assert local.visible_gpus() == ["3", "GPU-5a"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local.visible_gpus() == []
