"""Wire formats: pure codecs, one file each, used for clients and providers alike."""
