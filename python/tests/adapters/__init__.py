"""The clients that programs have already, on the kernel."""
