"""The data on the device, and the minibatches drawn from it."""
