"""Metering and billing for cloud storage: lifecycle events in, settled invoices out, every cent provable."""

__version__ = "0.1.0"
