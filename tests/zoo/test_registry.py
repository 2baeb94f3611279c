"""Architectures by name."""

import pytest

from statezoo import zoo
from statezoo.core import Linear, Module


def test_an_unknown_architecture_suggests_the_nearest_name():
    with pytest.raises(zoo.UnknownNameError, match=r"no model named 'simple-mpl'. Did you mean 'simple-mlp"):
        zoo.create_model("simple-mpl")


def test_the_message_of_an_unknown_name_is_not_quoted_like_a_key_error():
    with pytest.raises(KeyError) as caught:
        zoo.create_model("nothing-like-it")
    assert str(caught.value).startswith("There is no model named")


def test_a_name_cannot_be_registered_for_a_second_class():
    with pytest.raises(zoo.ZooError, match=r"'tense-mlp' is already .*TenseMLP. Choose another name"):

        @zoo.register("tense-mlp")
        class Impostor(Module):
            pass

    assert type(zoo.create_model("tense-mlp")).__name__ == "TenseMLP"


def test_registering_the_same_class_again_is_allowed_because_notebooks_run_cells_twice():
    before = zoo.architectures()
    zoo.register("tense-mlp")(zoo.TenseMLP)
    assert zoo.architectures() == before


@pytest.mark.parametrize("name", ["", "a.b", "../x", "Upper", "with space", "back\\slash"])
def test_a_name_that_could_be_a_path_or_a_tag_is_refused(name: str):
    with pytest.raises(zoo.ZooError, match="cannot name an architecture"):
        zoo.register(name)(Linear)


def test_an_unknown_option_is_an_error_that_lists_the_known_ones():
    with pytest.raises(zoo.EntryError, match=r"simple-mlp cannot be built with {'width': 3}: .*\. It takes \(in_dim"):
        zoo.create_model("simple-mlp", width=3)


def test_simple_mlp_for_mnist_has_118282_parameters():
    assert zoo.create_model("simple-mlp", in_dim=784, hidden_dim=128, out_dim=10).num_parameters() == 118_282


def test_a_created_model_is_in_training_mode():
    assert zoo.create_model("tense-mlp").training


def test_an_entry_name_creates_an_untrained_model_with_the_entrys_configuration():
    model = zoo.create_model("simple-mlp.digits-bn")
    assert "layers.1.running_mean" in model.state_dict()


def test_a_given_configuration_overrides_the_entrys():
    model = zoo.create_model("simple-mlp.digits-bn", hidden_dim=7)
    assert model.get_parameter("layers.0.weight").shape == (7, 64)
