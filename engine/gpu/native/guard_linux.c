//go:build linux && !js

// Turns the library's fatal errors into a return value.
//
// wgpu-native reports an error at submission, a lost device included, as a Rust panic in the outermost function, after
// its core has returned and let go of its locks. Nothing above catches that panic, so the unwinder finds the end of
// the stack and Rust aborts. Here the unwinder's entry point is replaced for the statically linked library: inside a
// guard the stack is unwound by force (which runs Rust's cleanups, as a cancelled thread does) down to the guard.
// After that the library's own function ends the panic, as its catch_unwind would: a thread that still counted as
// panicking would skip parts of later releases. Outside of a guard the real function is called. The definition is weak and hidden: other libraries keep their own,
// and where libgcc is linked statically its definition wins and the library aborts as before.

#define _GNU_SOURCE
#include "bridge.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdlib.h>
#include <unwind.h>

// std::panicking::try::cleanup of the libraries of both drivers. Its name contains a hash of the library's build; a
// library without any of these names is not guarded.
typedef struct {
	void *data, *vtable;
} boxed;
#define CLEANUP(hash) __asm__("_ZN3std9panicking3try7cleanup17h" hash "E") __attribute__((weak))
extern boxed cleanup_0_19_4(void *exception) CLEANUP("7785cf5d8fbb2bd3");
extern boxed cleanup_0_17_0(void *exception) CLEANUP("c98f0df44d621f22");

typedef struct guard {
	jmp_buf jump;
	char *frame; // an address in the guard's own stack frame
	struct _Unwind_Exception *exception;
	struct guard *outer;
} guard;

static __thread guard *innermost;

static _Unwind_Reason_Code stop(int version, _Unwind_Action actions, _Unwind_Exception_Class class,
                                struct _Unwind_Exception *exception, struct _Unwind_Context *context, void *user) {
	(void)version;
	(void)class;
	guard *g = user;
	g->exception = exception;
	if ((actions & _UA_END_OF_STACK) || (char *)_Unwind_GetCFA(context) > g->frame) longjmp(g->jump, 1);
	return _URC_NO_REASON;
}

// The alias sidesteps unwind.h, which declares the name with default visibility.
_Unwind_Reason_Code raise_exception(struct _Unwind_Exception *exception) __asm__("_Unwind_RaiseException")
    __attribute__((weak, visibility("hidden")));

_Unwind_Reason_Code raise_exception(struct _Unwind_Exception *exception) {
	if (innermost) return _Unwind_ForcedUnwind(exception, stop, innermost);
	_Unwind_Reason_Code (*real)(struct _Unwind_Exception *) =
	    (_Unwind_Reason_Code(*)(struct _Unwind_Exception *))dlsym(RTLD_DEFAULT, "_Unwind_RaiseException");
	if (!real || real == raise_exception) abort();
	return real(exception);
}

int qw_guarded(void (*fn)(void *), void *arg) {
	boxed (*cleanup)(void *) = cleanup_0_19_4 ? cleanup_0_19_4 : cleanup_0_17_0;
	if (!cleanup) {
		fn(arg);
		return 1;
	}
	guard g;
	g.frame = __builtin_frame_address(0);
	g.outer = innermost;
	if (_setjmp(g.jump)) {
		innermost = g.outer;
		cleanup(g.exception);
		return 0;
	}
	innermost = &g;
	fn(arg);
	innermost = g.outer;
	return 1;
}
