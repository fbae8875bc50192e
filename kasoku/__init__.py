"""Kasoku: serverless functions in unikernels, each with an accelerator of its own."""
