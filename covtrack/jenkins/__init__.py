"""Jenkins as the engine of many machines: jobs of the queue become builds on its agents."""
