"""Replay of captured requests through a version that has not served them: shadow traffic, after the fact."""

__all__ = ["replay_requests", "replay_run", "replays"]
