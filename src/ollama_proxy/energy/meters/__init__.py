"""Power meters of this machine, one file each, and the sampler that reads them."""
