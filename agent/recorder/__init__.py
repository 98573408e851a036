"""The recorder's process: threads, timers and storage round the pure parts.

One control thread feeds the core and carries its commands out, one writer thread seals and syncs, one journal thread
keeps the journal. Sources, GPIO and sockets run in threads of their own and only enqueue.
"""
