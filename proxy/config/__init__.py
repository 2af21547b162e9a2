"""Configuration: YAML and the environment in, a frozen Config out, or every error at once."""

from .catalog import build_catalog
from .images import Hosts, ImageDetail, Images, Rewrite
from .literals import literal_secrets
from .load import load_config, parse_config
from .problems import ConfigError, Problem
from .providers import doubtful
from .schema import (
    Admin,
    Config,
    Keys,
    MaxTokens,
    Metrics,
    Model,
    Plan,
    Price,
    Provider,
    Server,
    Store,
    Target,
    Timeouts,
    Tls,
)

__all__ = [
    "Admin",
    "Config",
    "ConfigError",
    "Hosts",
    "ImageDetail",
    "Images",
    "Keys",
    "MaxTokens",
    "Metrics",
    "Model",
    "Plan",
    "Price",
    "Problem",
    "Provider",
    "Rewrite",
    "Server",
    "Store",
    "Target",
    "Timeouts",
    "Tls",
    "build_catalog",
    "doubtful",
    "literal_secrets",
    "load_config",
    "parse_config",
]
