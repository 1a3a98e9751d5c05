"""Pretrained checkpoints: name resolution, downloads, configuration files, networks and fine-tuning."""
