//! What the proxy may still do after it has started: seccomp, Landlock, no capability.
