/* SPDX-License-Identifier: MIT */
/*
 * sha256.c - OpenSSL's SHA-256, loaded when it is first needed, and libmd's for few bytes.
 *
 * libcrypto has 17,000 relocations: linked to it, every start of mlfs took 0.7 ms more, which is a third of a
 * hit. So it is opened by dlopen(3), under the name that its headers give for the version built against. That takes 2 ms,
 * in which libmd, which is small and slow, has done what most steps print, and all that a hit with its outputs in place has to
 * hash.
 *
 * The only file that includes the two libraries' digests.
 */
#include <dlfcn.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/opensslv.h>
#include <pthread.h>
#include <sha2.h>
#include <stdatomic.h>

#include "sha256.h"

#define LITTLE ((size_t)256 << 10)

#define TEXT_OF(x) #x
#define TEXT(x)	   TEXT_OF(x)
#ifdef OPENSSL_SHLIB_VERSION
#define LIBRARY "libcrypto.so." TEXT(OPENSSL_SHLIB_VERSION)
#else
#define LIBRARY "libcrypto.so.1.1"
#endif

/* The functions used, with the types of OpenSSL's headers. */
#define FUNCTIONS(f)                                                                  \
	f(EVP_MD_CTX_new) f(EVP_MD_CTX_free) f(EVP_DigestInit_ex) f(EVP_DigestUpdate) \
		f(EVP_DigestFinal_ex) f(EVP_Digest) f(EVP_sha256)
#define MEMBER(name) __typeof__(&name) name;

struct crypto {
	int err; /* 0 or -errno */
	const EVP_MD *md;
	FUNCTIONS(MEMBER)
};
#undef MEMBER

static struct crypto loaded;

static void load(void)
{
	void *lib = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);

	loaded.err = -ELIBACC;
	if (!lib) {
		log_debug("cannot load %s: %s", LIBRARY, dlerror());
		return;
	}
	/* The cast through a pointer is how POSIX says to do it. */
#define GET(name)                                          \
	*(void **)&loaded.name = dlsym(lib, #name);        \
	if (!loaded.name) {                                \
		log_debug("%s has no %s", LIBRARY, #name); \
		return;                                    \
	}
	FUNCTIONS(GET)
#undef GET
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
	/* Fetched once, not by every digest. */
	EVP_MD *(*fetch)(OSSL_LIB_CTX *, const char *, const char *);

	*(void **)&fetch = dlsym(lib, "EVP_MD_fetch");
	loaded.md = fetch ? fetch(NULL, "SHA256", NULL) : NULL;
#endif
	if (!loaded.md)
		loaded.md = loaded.EVP_sha256();
	loaded.err = loaded.md ? 0 : -EIO;
}

/* NULL: *ret_err says why. */
static const struct crypto *crypto(int *ret_err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	(void)pthread_once(&once, load); /* cannot fail */
	*ret_err = loaded.err;
	return loaded.err ? NULL : &loaded;
}

struct sha256 {
	const struct crypto *c;
	EVP_MD_CTX *ctx;
};

int sha256_begin(struct sha256 **ret)
{
	int r;
	const struct crypto *c = crypto(&r);
	struct sha256 *s;

	if (!c)
		return r;
	s = xcalloc(1, sizeof(*s));
	s->c = c;
	s->ctx = c->EVP_MD_CTX_new();
	if (!s->ctx || c->EVP_DigestInit_ex(s->ctx, c->md, NULL) != 1) {
		r = s->ctx ? -EIO : -ENOMEM;
		sha256_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

int sha256_update(struct sha256 *s, const void *p, size_t n)
{
	return n && s->c->EVP_DigestUpdate(s->ctx, p, n) != 1 ? -EIO : 0;
}

int sha256_end(struct sha256 *s, struct oid *ret)
{
	struct oid oid;

	if (s->c->EVP_DigestFinal_ex(s->ctx, oid.b, NULL) != 1)
		return -EIO;
	*ret = oid;
	return 0;
}

void sha256_free(struct sha256 *s)
{
	if (!s)
		return;
	s->c->EVP_MD_CTX_free(s->ctx);
	free(s);
}

/* Are these to be hashed without libcrypto? As long as loading it would take longer than all such have taken so far. */
static bool is_little(size_t n)
{
	static atomic_size_t all; /* bytes */

	return n <= LITTLE && atomic_fetch_add(&all, n) + n <= LITTLE;
}

static void little(const void *p, size_t n, struct oid *ret)
{
	SHA2_CTX c;

	SHA256Init(&c);
	if (n)
		SHA256Update(&c, p, n);
	SHA256Final(ret->b, &c);
}

int sha256_of(const void *p, size_t n, struct oid *ret)
{
	const struct crypto *c;
	struct oid oid;
	int r;

	if (is_little(n)) {
		little(p, n, ret);
		return 0;
	}
	c = crypto(&r);
	if (!c)
		return r;
	if (c->EVP_Digest(p, n, oid.b, NULL, c->md, NULL) != 1)
		return -EIO;
	*ret = oid;
	return 0;
}
