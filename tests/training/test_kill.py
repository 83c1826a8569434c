"""A training that is killed at random moments ends bit for bit where an uninterrupted one does."""

import random
import subprocess
import sys
import time

from run_contents import assert_same_run

from mltk.training.run_folder import RunFolder

CODE = """
import sys, mltk
learner = mltk.algorithms.MAML(mltk.models.mlp([1, 40, 40, 1]), "mse", inner_steps=1)
mltk.train(
    learner, mltk.data.Sinusoid(shots=10, queries=10), backend=mltk.backend("numpy"), steps=STEPS,
    out=sys.argv[1], resume=True, log_every=3, checkpoint_every=7,
    progress=lambda step, steps, loss: print(step, flush=True),
)
"""
KILLS = 20


def command(folder, steps):
    return [sys.executable, "-c", CODE.replace("STEPS", str(steps)), str(folder)]


def test_twenty_kills_change_nothing(tmp_path):
    steps, start = 2000, time.perf_counter()
    with subprocess.Popen(command(tmp_path / "straight", steps), stdout=subprocess.PIPE) as straight:
        straight.stdout.readline()
        startup = time.perf_counter() - start
        straight.communicate()
    assert straight.returncode == 0
    chance = random.Random(0)
    folder, reached = RunFolder(tmp_path / "killed"), []
    for _ in range(KILLS):
        process = subprocess.Popen(command(folder.path, steps), stdout=subprocess.PIPE)
        if chance.random() < 0.7:  # while it trains and writes checkpoints
            for _ in range(chance.randint(1, 15)):
                process.stdout.readline()
            time.sleep(chance.uniform(0, 0.005))
        else:  # while it starts or reads what is there
            time.sleep(chance.uniform(0, startup))
        process.kill()
        process.communicate()
        assert process.returncode < 0, "the training ended before it could be killed"
        reached.append(folder.read_checkpoint().step if folder.checkpoint_path.exists() else 0)
    assert reached == sorted(reached)
    assert len(set(reached)) > KILLS // 2
    subprocess.run(command(folder.path, steps), stdout=subprocess.DEVNULL, check=True)
    assert_same_run(folder.path, tmp_path / "straight")
