//! The bytes that a v1.14.0 node has taken, and what it gave them for an id.

use super::*;
use crate::FIRST_SUBNET;

/// `platform.getUTXOs` of a new local network, without checksums.
const GENESIS_UTXOS: [&str; 2] = [
    "0000000000000000000000000000000000000000000000000000000000000000000000000001dbcf890f77f49b96\
     857648b72b77f9f82937f28a68704af05da0dc12ba53f2db00000007002386f26fc1000000000000000000000000\
     0001000000013cb7d3842e8cee6a0ebd09f1fe884f6861e1b29c",
    "0000000000000000000000000000000000000000000000000000000000000000000000000000dbcf890f77f49b96\
     857648b72b77f9f82937f28a68704af05da0dc12ba53f2db0000000700470de4df82000000000000000000000000\
     0001000000013cb7d3842e8cee6a0ebd09f1fe884f6861e1b29c",
];

fn utxos() -> Vec<Utxo> {
    let parse = |text: &&str| Utxo::parse(&const_hex::decode(text).unwrap()).unwrap();
    GENESIS_UTXOS.iter().map(parse).collect()
}

/// What the first subnet leaves of the money.
fn change(subnet: Id) -> Utxo {
    let funds = Utxo::pick(&utxos()).unwrap();
    Utxo {
        tx: subnet,
        index: 0,
        amount: funds.amount - FEE,
        ..funds
    }
}

const BASE: &str = "0000303900000000000000000000000000000000000000000000000000000000000000000000\
                    0001dbcf890f77f49b96857648b72b77f9f82937f28a68704af05da0dc12ba53f2db00000007";

#[test]
fn the_first_subnet_has_the_bytes_and_the_id_that_the_node_knows() {
    let signed = Kind::CreateSubnet.sign(&Utxo::pick(&utxos()).unwrap());
    let signed = signed.unwrap();
    assert_eq!(signed.id.to_string(), FIRST_SUBNET);
    let expected = [
        "000000000010",
        BASE,
        "00470de4a3e73600000000000000000000000001000000013cb7d3842e8cee6a0ebd09f1fe884f6861e1b29c",
        "000000010000000000000000000000000000000000000000000000000000000000000000000000\
         00dbcf890f77f49b96857648b72b77f9f82937f28a68704af05da0dc12ba53f2db0000000500470de4df820000",
        "000000010000000000000000",
        "0000000b000000000000000000000001000000013cb7d3842e8cee6a0ebd09f1fe884f6861e1b29c",
        "000000010000000900000001",
        "0afb62c9c554bc26903279d51f82970b0e5b7968471df0945510820dbf18eca8",
        "677f808fdb0c15e8fceb3288c910ab683606b31d6f08a361c87cdc9ef37a91eb00",
    ];
    assert_eq!(const_hex::encode(&signed.bytes), expected.concat());
}

#[test]
fn a_validator_is_signed_for_by_the_payer_and_by_the_owner() {
    let subnet: Id = FIRST_SUBNET.parse().unwrap();
    let kind = Kind::AddSubnetValidator {
        subnet,
        node: "NodeID-7Xhw2mDxuDS44j42TCB6U5579esbSt3Lg".parse().unwrap(),
        start: 0,
        end: 1_800_000_000,
        weight: 100,
    };
    let signed = kind.sign(&change(subnet)).unwrap();
    let id = "2SNu8uM4jKwwSLTcGsJe8eQdx1b4TK1wdmUQQCGF1MdVN6icHc";
    assert_eq!(signed.id.to_string(), id);
    let credential = "00000009000000011aa01a780077d46673895f28fb077444c39975a5575e315c5333e7f37d93\
                      56f5113b22269339bf594708769e9150dabde7a69ebd579eec7e79208af9bbbaa92e01";
    let end = [
        "479f66c8be895830547e70b4b298cafd433dba6e",
        "0000000000000000000000006b49d2000000000000000064",
        "586d769560ff57008801f6b79bfab73f784d1619008dc898245e327906d7d2a2",
        "0000000a0000000100000000",
        "00000002",
        credential,
        credential,
    ];
    let bytes = const_hex::encode(&signed.bytes);
    assert!(bytes.starts_with(&format!("00000000000d{BASE}00470de4684c6c00")));
    assert!(bytes.ends_with(&end.concat()), "{bytes}");
}

#[test]
fn a_chain_carries_name_vm_and_genesis() {
    let subnet: Id = FIRST_SUBNET.parse().unwrap();
    let kind = Kind::CreateChain {
        subnet,
        name: "sessionvm",
        vm: crate::SESSION_VM,
        genesis: b"{}",
    };
    let signed = kind.sign(&change(subnet)).unwrap();
    let id = "2dCKckrbHuCprgdGpjJNwdkhawBAHY6fviCjhp7nBgF8FWhRvK";
    assert_eq!(signed.id.to_string(), id);
    let credential = "0000000900000001188ebdb88224d1745a95eaaecc5814fec4b0f22c0bae54ac13bbed10c097\
                      a0f70174005251a15e90cbdfc28754ba82de121b10b5470bff4bab6efce2b2c7f9c500";
    let end = [
        "586d769560ff57008801f6b79bfab73f784d1619008dc898245e327906d7d2a2",
        "000973657373696f6e766d",
        "73657373696f6e766d0000000000000000000000000000000000000000000000",
        "00000000000000027b7d",
        "0000000a0000000100000000",
        "00000002",
        credential,
        credential,
    ];
    let bytes = const_hex::encode(&signed.bytes);
    assert!(bytes.starts_with(&format!("00000000000f{BASE}00470de4684c6c00")));
    assert!(bytes.ends_with(&end.concat()), "{bytes}");
}

#[test]
fn the_lowest_output_pays_whatever_order_they_come_in() {
    let mut all = utxos();
    let picked = Utxo::pick(&all).unwrap();
    all.reverse();
    assert_eq!(Utxo::pick(&all).unwrap(), picked);
    assert_eq!(picked.index, 0);
    for utxo in &mut all {
        utxo.amount = FEE;
    }
    assert_eq!(Utxo::pick(&all), Err(TxError::NoFunds));
    assert_eq!(Utxo::pick(&[]), Err(TxError::NoFunds));
}

#[test]
fn money_that_is_locked_or_of_others_is_passed_over() {
    let bytes = const_hex::decode(GENESIS_UTXOS[0]).unwrap();
    // Kind, locktime, threshold, addresses, the address.
    for at in [70, 85, 93, 97, 101] {
        let mut other = bytes.clone();
        other[at] ^= 22;
        assert_eq!(Utxo::parse(&other), None, "{at}");
    }
    for len in 0..bytes.len() {
        assert_eq!(Utxo::parse(&bytes[..len]), None, "{len}");
    }
}

#[test]
fn signatures_are_low() {
    // The P-chain refuses the other half.
    let funds = Utxo::pick(&utxos()).unwrap();
    for amount in FEE..FEE + 64 {
        let signed = Kind::CreateSubnet.sign(&Utxo { amount, ..funds }).unwrap();
        let signature = &signed.bytes[signed.bytes.len() - 65..];
        assert!(signature[32] < 0x80, "s is above half of the order");
        assert!(signature[64] < 2);
    }
}

#[test]
fn what_no_transaction_can_carry_is_told() {
    let kind = Kind::CreateChain {
        subnet: Id::new([1; 32]),
        name: &"n".repeat(129),
        vm: crate::SESSION_VM,
        genesis: b"",
    };
    let error = kind.sign(&utxos()[0]).unwrap_err();
    assert_eq!(error.to_string(), "a name of 129 bytes is longer than 128");
}
