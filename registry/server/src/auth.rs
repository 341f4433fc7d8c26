//! Who is asking: HTTP Basic credentials against an htpasswd file.
//!
//! ```text
//!  Authorization: Basic ... --> pair in the cache of verified ones? -- yes --> User
//!                                       | no
//!                               hash it on a blocking thread, few at once --> User | WrongPassword
//!  none ------------------------------------------------------------------> Anonymous
//! ```
//!
//! What they may do is decided in `domain`, for every route, by one function.

mod authenticator;
mod hash_password;
mod htpasswd;

pub(crate) use authenticator::{AuthError, Authenticator};
pub(crate) use hash_password::{htpasswd_line, read_password};
pub(crate) use htpasswd::Users;
