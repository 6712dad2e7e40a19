"""Does it keep what it promises? One row a check, with the figure to reach; `bin/reliability` runs them."""
