from setuptools import setup

setup(cffi_modules=["core_build.py:ffi"])
