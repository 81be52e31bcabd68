"""How attacks run: compiled, with early exit, restarts and a second try in float32. None of it is part of a paper.

An attack's own file has its loop as the paper prints it, as a function (steps, state, inputs) → (new state, done). The
functions here are wrappers around such a loop:

    run_compiled       compiles a whole attack and caches the program
    take_all_steps     runs the loop once, for all images, as the papers do
    stop_when_fooled   removes an image from the batch after the step that fools the network
    stop_when_done     removes an image from the batch after the step that reports it as done
    best_of_restarts   repeats a whole run from several starts, and in float32 for images that bfloat16 did not fool

To remove single images, a wrapper runs the loop one step at a time for those that remain.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import NamedTuple, Protocol

import tensorflow as tf

from rawcnn.attacks.active_set import advance
from rawcnn.attacks.common import Classifier, attack_loss, fooled, logits_of, per_image
from rawcnn.nn.execution import choose, compiled
from rawcnn.nn.folding import folded
from rawcnn.nn.network import Network

Tensors = Sequence[tf.Tensor]

# Compiling --------------------------------------------------------------------------------------------------

_compiled: weakref.WeakKeyDictionary[Classifier, dict[tuple, Callable]] = weakref.WeakKeyDictionary()


def run_compiled(network: Classifier, function: Callable, *tensors, compile: str = "auto", **settings):
    """Run `function(network, *tensors, **settings)` as one compiled program.

    The program is cached for as long as the network lives. A new one is compiled for other `settings` and for other
    shapes, except for the batch size in a graph; pass values that vary as tensors. A bfloat16 program is never a mixed
    graph: the batch shrinks in an attack's loop, and XLA would compile its islands for every size.

    Args:
        network: A `Network` or any other function images → logits.
        function: The attack.
        tensors: Its tensors, or tuples of tensors; numbers become scalars, float32 or int32.
        compile: One of `rawcnn.nn.execution.MODES`.
        settings: Its other arguments, which must be hashable.

    Returns:
        What the function returns.
    """
    choice = choose(compile, getattr(network, "devices", ()))
    tensors = tf.nest.map_structure(tf.convert_to_tensor, tensors)
    signature = tf.nest.map_structure(_any_batch, tensors)
    try:
        cache = _compiled.setdefault(network, {})
    except TypeError:  # the network cannot be hashed or has no weak references, so nothing can be cached for it
        return compiled(partial(function, network, **settings), choice, signature)(*tensors)
    key = (function, choice.mode, signature, *sorted(settings.items()))
    if key not in cache:
        alive = weakref.ref(network)  # the cache's values must not keep its key alive
        cache[key] = compiled(partial(_call, function, alive, **settings), choice, signature)
    return cache[key](*tensors)


def _any_batch(tensor: tf.Tensor) -> tf.TensorSpec:
    """The tensor's type and shape, for any batch size."""
    return tf.TensorSpec((None, *tensor.shape[1:]) if tensor.shape.rank else (), tensor.dtype)


def _call(function: Callable, network: weakref.ref, *tensors, **settings):
    return function(network(), *tensors, **settings)


def folded_network(network: Classifier, precision: str = "float32") -> Classifier:
    """The same function for use in a loop: a Network's batch norms are folded into its convolutions once, before it.

    Its logits may differ by rounding, so the attacked images are judged by the network itself.
    """
    return folded(network, precision) if isinstance(network, Network) else network


# Wrappers around a loop -------------------------------------------------------------------------------------


class Loop(Protocol):
    """An attack's loop. All tensors are [B,…], and a row's result must not depend on other rows."""

    def __call__(self, steps: tf.Tensor | int, state: Tensors, inputs: Tensors) -> tuple[Tensors, tf.Tensor]:
        """Run the loop.

        Args:
            steps: How many steps, 1 or more.
            state: What a step changes. Its first tensor is the attacked image.
            inputs: What a step reads besides.

        Returns:
            (the last state; which images are done, bool [B]).
        """


class ActiveSet(NamedTuple):
    """Which images of a batch are finished, and what the attack spent on each."""

    finished: tf.Tensor  # bool [B]
    steps: tf.Tensor  # int32 [B], gradient steps that the image kept
    queries: tf.Tensor  # int32 [B], forward passes


def take_all_steps(
    loop: Loop, steps: tf.Tensor, state: Tensors, inputs: Tensors, active: ActiveSet
) -> tuple[Tensors, ActiveSet]:
    """Run the loop once, for all images. Returns (the last state, the active set with what was spent)."""
    last, _ = loop(steps, state, inputs)
    return last, ActiveSet(active.finished, active.steps + steps, active.queries + steps)


def stop_when_fooled(
    loop: Loop, steps: tf.Tensor, state: Tensors, inputs: Tensors, active: ActiveSet, *, gather: bool
) -> tuple[Tensors, ActiveSet]:
    """As `take_all_steps`, but an image that fools the network stays as it is and takes no further step.

    The loop marks the images that fooled the network before its last step, because the forward pass of a step shows
    whether the step before it fooled the network. An image takes at least one step, also if the network is wrong about
    it from the start. `gather` is that of `advance`.
    """

    def body(k, finished, taken, queries, *state):
        queries += tf.cast(~finished, tf.int32)
        one_step = partial(_one_step_unless_fooled, loop, len(state), k > 0)
        finished, *new = advance(one_step, finished, (finished, *state), inputs, gather=gather)
        return k + 1, finished, taken + tf.cast(~finished, tf.int32), queries, *new

    _, *found = tf.while_loop(
        lambda k, finished, *_: (k < steps) & ~tf.reduce_all(finished), body, (0, *active, *state)
    )
    return found[3:], ActiveSet(*found[:3])


def _one_step_unless_fooled(loop: Loop, count: int, may_finish: tf.Tensor, _, *tensors: tf.Tensor):
    """(finished [B], the new state) of `count` tensors of state and the inputs; a fooled image does not move."""
    x = tensors[0]
    (moved, *rest), fooled_before = loop(1, tensors[:count], tensors[count:])
    finished = may_finish & fooled_before
    return finished, tf.where(per_image(finished, x), x, moved), *rest


def stop_when_done(
    loop: Loop, steps: tf.Tensor, state: Tensors, inputs: Tensors, finished: tf.Tensor, *, gather: bool
) -> tuple[Tensors, tf.Tensor]:
    """Take at most `steps` for each image that is not `finished`, bool [B], until the loop marks it as done.

    Returns:
        (the last state, the steps that each image took, int32 [B]).
    """

    def body(k, finished, taken, *state):
        taken += tf.cast(~finished, tf.int32)
        one_step = partial(_one_step, loop, len(state))
        finished, *new = advance(one_step, finished, (finished, *state), inputs, gather=gather)
        return k + 1, finished, taken, *new

    _, _, taken, *last = tf.while_loop(
        lambda k, finished, *_: (k < steps) & ~tf.reduce_all(finished),
        body,
        (0, finished, tf.zeros(tf.shape(finished), tf.int32), *state),
    )
    return last, taken


def _one_step(loop: Loop, count: int, _, *tensors: tf.Tensor):
    """(done [B], the new state) of `count` tensors of state and the inputs."""
    state, done = loop(1, tensors[:count], tensors[count:])
    return done, *state


# Restarts and precision -------------------------------------------------------------------------------------


def best_of_restarts(
    network: Classifier,
    attack: Callable[[Classifier, tf.Tensor, ActiveSet], tuple[tf.Tensor, ActiveSet]],
    images: tf.Tensor,
    goals: tf.Tensor,
    restarts: tf.Tensor,
    *,
    targeted: bool,
    precision: str,
    early_stop: bool,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Run an attack `restarts` times and keep each image's best run.

    The best run is the first that fools the network, otherwise the one with the highest loss. In bfloat16 all runs are
    repeated in float32 for images that were not fooled, so that no fewer are fooled than in float32 alone.

    Args:
        network: The network that judges each run.
        attack: A function of (the network to compute with, the restart's number, the active set) that returns the
            attacked images [B,H,W,3] and the new active set.
        images: The original images [B,H,W,3].
        goals: int32 [B], the labels or the targets.
        restarts: How many.
        targeted: Whether the goals are targets.
        precision: "float32" or "bfloat16".
        early_stop: Whether a fooled image takes no part in further runs. Otherwise all images take part in all.

    Returns:
        (attacked images [B,H,W,3]; gradient steps and forward passes of each image, int32 [B]).
    """

    def restart(model, r, best, best_loss, taken, queries):
        if early_stop:
            finished, active = best_loss == inf, tf.cast(best_loss < inf, tf.int32)
        else:
            finished, active = tf.zeros_like(goals, tf.bool), 1
        x, (_, taken, queries) = attack(model, r, ActiveSet(finished, taken, queries + active))  # 1 to judge the run
        logits = logits_of(network, x)
        loss = tf.where(fooled(logits, goals, targeted), inf, attack_loss(logits, goals, targeted))
        better = loss > best_loss
        best, best_loss = tf.where(per_image(better, x), x, best), tf.where(better, loss, best_loss)
        return r + 1, best, best_loss, taken, queries

    state = images, tf.fill(tf.shape(goals), -inf), tf.zeros_like(goals), tf.zeros_like(goals)
    for tried in dict.fromkeys((precision, "float32")):
        stops = early_stop or tried != precision
        _, *state = tf.while_loop(
            lambda r, best, best_loss, *_, stops=stops: (r < restarts) & (not stops or tf.reduce_any(best_loss < inf)),
            partial(restart, folded_network(network, tried)),
            (0, *state),
        )
    best, _, taken, queries = state
    return best, taken, queries
