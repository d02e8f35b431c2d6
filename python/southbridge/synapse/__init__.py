"""Synapse's outbound federation in the kernel, beside the interpreter: an entry under ``modules:``, and nothing else.

    modules:
      - module: southbridge.synapse.Module
        config: {}

Taken out again, Synapse is as it was: the truth never leaves its database.
"""

from southbridge.synapse._module import Module

__all__ = ["Module"]
