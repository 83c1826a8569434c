"""The live figures: mltk trains in the page, with the same digits; what is recorded is computed anew."""

import json

import pytest

pytest.importorskip("mkdocs", reason="the site is built where the extra docs is installed")
live = pytest.importorskip("live")


@pytest.fixture(scope="module")
def made():
    return live.made()


def test_the_moving_picture_shows_errors_that_fall(made):
    hero = json.loads(made["hero.json"])
    assert len(hero["tasks"]) == live.HERO_TASKS
    for task in hero["tasks"]:
        assert len(task["fits"]) == len(task["errors"]) == 6
        assert {len(fit) for fit in task["fits"]} == {len(hero["grid"])}
        assert task["errors"][-1] < 0.3 * task["errors"][0]


def test_a_place_for_a_figure_is_filled_with_addresses_as_seen_from_the_page():
    html = live.PLACE.sub(
        lambda found: live.markup(found[1], "../up"), '<div data-live="sinusoid-hero"></div>'
    )
    assert 'data-live="sinusoid-hero"' in html
    assert 'src="../up/hero.js"' in html
    assert 'alt="A network meta-trained by MAML' in html
