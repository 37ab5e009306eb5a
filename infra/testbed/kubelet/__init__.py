"""Plays the kubelet for pods that are to go wrong: their statuses and Events, in its own wording."""
