"""Slack: a bot that keeps one message an incident up to date, and incoming webhooks, which cannot edit."""
