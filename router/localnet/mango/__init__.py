"""A model of the Mango v4 program for the embedded cluster: perpetual markets, accounts, books and queues."""
