// Records what the venue's own client makes of generated inputs, as the fixture of test_mango_client_instructions.py.
//
//   mkdir client && cd client
//   npm install @blockworks-foundation/mango-v4@0.33.9
//   NODE_PATH=$PWD/node_modules node <here>/make_instructions.mjs > <here>/instructions.json
//
// Nothing is sent and no node is asked: the client is given a connection that goes nowhere, and the group, markets and
// accounts as plain objects with what its builders read. Inputs come from a seed, so a second run gives the same file.

import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import path from "node:path";

const modules = process.env.NODE_PATH ?? path.join(process.cwd(), "node_modules");
const require = createRequire(path.join(modules, "here.js"));
const { AnchorProvider, BN, Program, Wallet } = require("@coral-xyz/anchor");
const { Connection, Keypair, PublicKey } = require("@solana/web3.js");
const { IDL, MangoClient, PerpOrderSide, PerpOrderType, PerpSelfTradeBehavior } = require(
  "@blockworks-foundation/mango-v4",
);
const { version } = require("@blockworks-foundation/mango-v4/package.json");

const CASES = 40;
const FREE = 65535;
const PROGRAM_ID = new PublicKey("4MangoMjqJ2firMokCjjGgoK8d4MXcrgL7XJaL3w6fVg");

const digest = (label) => createHash("sha256").update(`mango instructions ${label}`).digest();
const key = (label) => new PublicKey(digest(label));

// Numbers from the seed: each call hashes a counter.
let counter = 0;
const number = (below) => Number(digest(`number ${counter++}`).readBigUInt64LE() % BigInt(below));
const u63 = () => digest(`number ${counter++}`).readBigUInt64LE() >> 1n;
const chance = () => number(2) === 1;
const shuffled = (items) => {
  const left = [...items];
  return items.map(() => left.splice(number(left.length), 1)[0]);
};

const wallet = new Wallet(Keypair.fromSeed(digest("wallet")));
const provider = new AnchorProvider(new Connection("http://localhost:1"), wallet, {});
const client = new MangoClient(new Program(IDL, PROGRAM_ID, provider), PROGRAM_ID, "mainnet-beta", {
  fallbackOracleConfig: "never",
});

const tokens = [...Array(6).keys()].map((index) => ({
  tokenIndex: index,
  publicKey: key(`bank ${index}`),
  vault: key(`vault ${index}`),
  oracle: key(`bank oracle ${index}`),
  mint: key(`mint ${index}`),
}));
const perps = [...Array(5).keys()].map((index) => ({
  perpMarketIndex: index,
  publicKey: key(`perp ${index}`),
  bids: key(`bids ${index}`),
  asks: key(`asks ${index}`),
  eventQueue: key(`event queue ${index}`),
  oracle: key(`perp oracle ${index}`),
  // Lots are given as they are: the conversion from dollars is not what is compared.
  uiPriceToLots: (lots) => lots,
  uiBaseToLots: (lots) => lots,
}));
const group = {
  publicKey: key("group"),
  getPerpMarketByMarketIndex: (index) => perps[index],
  getFirstBankForPerpSettlement: () => tokens[0],
  getFirstBankByMint: (mint) => tokens.find((each) => each.mint.equals(mint)),
  banksMapByTokenIndex: new Map(tokens.map((each) => [each.tokenIndex, [each]])),
  mintInfosMapByTokenIndex: new Map(
    tokens.map((each) => [each.tokenIndex, { ...each, firstBank: () => each.publicKey }]),
  ),
};

const slots = (count, held) => {
  const filled = [...held, ...Array(count - held.length).fill(FREE)];
  return shuffled(filled);
};

// An account with some slots taken; a free one is always left where the instruction may need it.
const makeAccount = (label) => {
  const tokenSlots = slots(2 + number(7), shuffled([...tokens.keys()]).slice(0, 1 + number(2)));
  const perpSlots = slots(3 + number(4), shuffled([...perps.keys()]).slice(0, number(3)));
  const spotSlots = slots(1 + number(3), [...Array(number(2)).keys()]);
  if (!tokenSlots.includes(0) && !tokenSlots.includes(FREE)) tokenSlots[number(tokenSlots.length)] = 0;
  return {
    publicKey: key(`account ${label}`),
    owner: wallet.publicKey,
    tokens: tokenSlots.map((tokenIndex) => ({ tokenIndex })),
    perps: perpSlots.map((marketIndex) => ({ marketIndex })),
    serum3: spotSlots.map((marketIndex) => ({ marketIndex, openOrders: key(`open orders ${label} ${marketIndex}`) })),
  };
};

const recorded = (instruction) => ({
  program: instruction.programId.toBase58(),
  data: instruction.data.toString("hex"),
  accounts: instruction.keys.map(
    (meta) => `${meta.pubkey.toBase58()} ${meta.isSigner ? "s" : "-"}${meta.isWritable ? "w" : "-"}`,
  ),
});
const described = (account) => ({
  address: account.publicKey.toBase58(),
  tokens: account.tokens.map((each) => each.tokenIndex),
  perps: account.perps.map((each) => each.marketIndex),
  serum3: account.serum3.map((each) => [each.marketIndex, each.openOrders.toBase58()]),
});

const cases = [];
for (let index = 0; index < CASES; index++) {
  const account = makeAccount(index);
  const market = number(perps.length);
  const order = {
    side: number(2),
    priceLots: String(u63() >> BigInt(number(60))),
    baseLots: String(u63() >> BigInt(number(60))),
    clientOrderId: String(digest(`client ${index}`).readBigUInt64LE()),
    reduceOnly: chance(),
    expiry: 1_700_000_000 + number(200_000_000),
    limit: 1 + number(255),
  };
  const placed = await client.perpPlaceOrderV2Ix(
    group,
    account,
    market,
    order.side === 0 ? PerpOrderSide.bid : PerpOrderSide.ask,
    new BN(order.priceLots),
    new BN(order.baseLots),
    undefined,
    order.clientOrderId,
    PerpOrderType.immediateOrCancel,
    PerpSelfTradeBehavior.abortTransaction,
    order.reduceOnly,
    order.expiry,
    order.limit,
  );
  const orderId = (u63() << 63n) | u63();
  const token = account.tokens.map((each) => each.tokenIndex).find((each) => each !== FREE);
  const amount = String(u63());
  const withdrawn = await client.tokenWithdrawNativeIx(group, account, tokens[token].mint, amount, false);
  const parties = [...Array(1 + number(6)).keys()].map((each) => key(`party ${index} ${each}`));
  const sizes = [number(16), number(16), number(16), number(64), number(8)];
  cases.push({
    account: described(account),
    market,
    order,
    orderId: String(orderId),
    withdraw: { token, amount, wallet: withdrawn[1].keys[6].pubkey.toBase58() },
    parties: parties.map((each) => each.toBase58()),
    sizes,
    instructions: {
      place: recorded(placed),
      cancel: recorded(await client.perpCancelOrderIx(group, account, market, new BN(String(orderId)))),
      withdraw: recorded(withdrawn[1]),
      consume: recorded(await client.perpConsumeEventsIx(group, market, parties, 8)),
      deactivate: recorded(await client.perpDeactivatePositionIx(group, account, market)),
      expand: recorded(await client.accountExpandV2Ix(group, account, ...sizes)),
    },
  });
}

const base58 = (items, names) =>
  items.map((each) => Object.fromEntries(names.map((name) => [name, each[name].toBase58()])));
const lines = (items) => `[\n${items.map((each) => JSON.stringify(each)).join(",\n")}\n]`;
process.stdout.write(`{
"client": "@blockworks-foundation/mango-v4 ${version}",
"program": "${PROGRAM_ID.toBase58()}",
"group": "${group.publicKey.toBase58()}",
"wallet": "${wallet.publicKey.toBase58()}",
"tokens": ${lines(base58(tokens, ["publicKey", "vault", "oracle", "mint"]))},
"perps": ${lines(base58(perps, ["publicKey", "bids", "asks", "eventQueue", "oracle"]))},
"cases": ${lines(cases)}
}
`);
