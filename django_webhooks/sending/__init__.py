"""Sending, stage by stage: recording → claims → attempts → results."""
