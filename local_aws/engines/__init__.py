"""The engines that local nodes run: vLLM's CPU build, or an emulation of it."""
