"""Profiles: where the time of a graph's runs went."""

from .profiling import GroupProfile, LargerLimit, Profile, Step, Wait, profile

__all__ = ["GroupProfile", "LargerLimit", "Profile", "Step", "Wait", "profile"]
