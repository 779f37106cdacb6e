"""What the memory service offers to agents: one module for each tool or two, over the same methods as HTTP. `catalogue` lists them."""
