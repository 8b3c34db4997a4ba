//go:build !linux && !js

#include "bridge.h"

// On other systems a fatal error of the library ends the process.
int qw_guarded(void (*fn)(void *), void *arg) {
	fn(arg);
	return 1;
}
