"""What measures tell of a prototypical network's accuracy on unseen classes: a script that prints a table."""

import argparse

import mltk
from mltk.task_analysis import Measures, Predicted, measures, predicted

DATA = {"glyphs": lambda: mltk.data.Glyphs(alphabets=12), "omniglot": lambda: mltk.data.Omniglot("small1")}
SHOTS = (1, 5)


def of(data, shots: int) -> Predicted:
    """The correlations over 600 tasks of 75 queries, of classes that training has not seen."""
    backend = mltk.backend("torch")
    train, test = (part.tasks(ways=5, shots=shots, queries=15) for part in (data, data.held_out()))
    embedding = mltk.models.conv4(in_channels=1, image_size=28, width=16)
    learner = mltk.algorithms.Prototypical(embedding)
    params = mltk.train(learner, train, backend=backend, steps=200, meta_batch=4, seed=0).meta_params
    parts, accuracies = [], []
    for seed in range(30):
        episode = test.sample(20, rng=seed, backend=backend)
        parts.append(measures(episode, (embedding, params), learner=(learner, params)))
        state = learner.adapt(params, episode.support_x, episode.support_y)
        right = learner.predict(state, episode.query_x).argmax(-1) == episode.query_y
        accuracies += right.double().mean(1).tolist()
    return predicted(Measures.joined(parts), accuracies, queries=75)


def row(title: str, intervals) -> str:
    """A line of the table."""
    cells = (f"{i.estimate:.2f} [{i.low:.2f}, {i.high:.2f}]" if i else "–" for i in intervals)
    return f"| {title} | {' | '.join(cells)} |".replace("-", "−")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=DATA)
    found = [of(DATA[parser.parse_args().data](), shots) for shots in SHOTS]
    print(row("**ceiling**, √reliability | ", [each.ceiling for each in found]))
    print(row("reliability: other queries of the same tasks | ", [each.reliability for each in found]))
    needs = {name: each.needs[name] for each in found for name in each.needs}
    for name, need in needs.items():
        print(row(f"`{name}` | {need}", [each.correlations.get(name) for each in found]))
