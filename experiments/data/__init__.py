from experiments.data.mnist5k import Digits as Digits
from experiments.data.mnist5k import batch_order as batch_order
from experiments.data.mnist5k import mnist_5k as mnist_5k
from experiments.data.mnist5k import split as split
from experiments.data.mnist5k import with_wrong_labels as with_wrong_labels
