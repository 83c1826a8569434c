"""Candidates: implementations that the oracle calls, here, in a process of their own, or as a program."""

from mltk.oracle.candidate.command import Command
from mltk.oracle.candidate.loading import CandidateError, load
from mltk.oracle.candidate.request import Outcome, Problem
from mltk.oracle.candidate.runner import Runner, runner
from mltk.oracle.candidate.settings import Settings

__all__ = ["CandidateError", "Command", "Outcome", "Problem", "Runner", "Settings", "load", "runner"]
