"""Files from outside, one door for each kind: what is read is checked first, and a fault is a sentence with the file.

Whoever wrote the file may have been unlucky or hostile: nothing here blocks on a pipe, believes a size that a header
claims, or runs what it reads.
"""
