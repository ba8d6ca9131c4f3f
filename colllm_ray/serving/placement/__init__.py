"""What copies of models need, which nodes have it, and why one cannot be placed."""
