"""The tasks: the class of an image, or the next token of a text."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.config import Config


class Classification(NamedTuple):
  """Batches {"image": BxHxWxC, "label": B, or BxK where labels are mixed}."""

  label_smoothing: float = 0.0

  def inputs(self, batch):
    images = batch["image"]
    return images if jnp.issubdtype(images.dtype, jnp.floating) else images / 127.5 - 1

  def losses_and_hits(self, logits_BxK, batch):
    labels, classes = batch["label"], logits_BxK.shape[-1]
    labels_BxK = labels if labels.ndim == 2 else jax.nn.one_hot(labels, classes)
    hits_B = jnp.argmax(logits_BxK, axis=-1) == jnp.argmax(labels_BxK, axis=-1)
    smooth_BxK = optax.smooth_labels(labels_BxK, self.label_smoothing)
    return optax.softmax_cross_entropy(logits_BxK, smooth_BxK), hits_B

  def scores(self, losses_B, hits_B):
    """Each example's part of the score that runs are compared by: its accuracy, in percent."""
    return 100 * hits_B.astype(jnp.float32)


class NextToken(NamedTuple):
  """Batches {"tokens": Bx(L+1)}: every token but the first is predicted."""

  def inputs(self, batch):
    return batch["tokens"][:, :-1]

  def losses_and_hits(self, logits_BxLxV, batch):
    targets_BxL = batch["tokens"][:, 1:]
    losses_BxL = optax.softmax_cross_entropy_with_integer_labels(logits_BxLxV, targets_BxL)
    return losses_BxL, jnp.argmax(logits_BxLxV, axis=-1) == targets_BxL

  def scores(self, losses_BxL, hits_BxL):
    """Each window's part of the score that runs are compared by: its mean loss."""
    return jnp.mean(losses_BxL, axis=-1)


def make_task(config: Config, train: bool) -> Classification | NextToken:
  """Labels are smoothed in training alone."""
  if config.data.set.task == "next_token":
    return NextToken()
  return Classification(config.training.label_smoothing if train else 0.0)


class Losses(NamedTuple):
  """A task's functions of params, for one model; ``state`` holds BatchNorm's statistics."""

  model: Any
  task: Classification | NextToken

  def logits(self, params, state, batch, key):
    """Logits, and BatchNorm's statistics after this batch."""
    return self.model.apply(
      {"params": params} | state,
      self.task.inputs(batch),
      train=True,
      rngs={"dropout": key},
      mutable=list(state),
    )

  def loss(self, params, state, batch, key):
    """(mean loss, (statistics, {"loss", "accuracy"})) of a training batch."""
    logits, state = self.logits(params, state, batch, key)
    losses, hits = self.task.losses_and_hits(logits, batch)
    loss = jnp.mean(losses)
    return loss, (state, {"loss": loss, "accuracy": 100 * jnp.mean(hits)})

  def mean_loss(self, logits, batch):
    return jnp.mean(self.task.losses_and_hits(logits, batch)[0])

  def sampled_loss(self, params, state, batch, key, label_key):
    """The mean negative log likelihood of labels drawn from the model itself."""
    logits, _ = self.logits(params, state, batch, key)
    labels = jax.random.categorical(label_key, jax.lax.stop_gradient(logits))
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

  def evaluate(self, params, state, batch, weights_B):
    """Sums of loss and accuracy over the examples whose weight is 1, and the sum of the weights."""
    losses, hits = self.test_losses_and_hits(params, state, batch)
    weights = jnp.broadcast_to(weights_B.reshape(-1, *[1] * (losses.ndim - 1)), losses.shape)
    return {
      "loss": jnp.sum(jnp.where(weights > 0, losses, 0)),
      "accuracy": 100 * jnp.sum(jnp.where(weights > 0, hits, False)),
      "count": jnp.sum(weights),
    }

  def scores(self, params, state, batch):
    """The score of each of B examples; compiled with ``evaluate``, it runs the model no second time."""
    return self.task.scores(*self.test_losses_and_hits(params, state, batch))

  def test_losses_and_hits(self, params, state, batch):
    logits = self.model.apply({"params": params} | state, self.task.inputs(batch), train=False)
    return self.task.losses_and_hits(logits, batch)
