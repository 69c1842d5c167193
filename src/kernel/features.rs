//! What devices and the kernel can, as far as the choice of a path needs it.
use crate::xsk::netdev::Netdev;
/// What matters of a port: its driver.
#[derive(Clone, Debug)]
pub struct PortFacts(pub String);
impl PortFacts {
    /// Of a device.
    pub fn of(device: &Netdev) -> PortFacts {
        PortFacts(device.driver().to_owned())
    }
}
/// What the kernel lacks.
#[derive(Clone, Debug, Default)]
pub struct KernelFacts {
    /// Why there is no kernel path; `None` where there is one.
    pub lacks: Option<String>,
}
