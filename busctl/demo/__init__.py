"""The sample trading bus: an order book, execution, traders, analytics, and what breaks among them.

Every service is a process of its own (`python -m busctl.demo.obs`) that talks to the others through the broker only.
"""
