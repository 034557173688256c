"""load -> find sites -> plan -> apply -> fold -> prove, on values."""
