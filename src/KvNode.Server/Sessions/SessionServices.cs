using KvNode.Raft;
using KvNode.Server.Commands;
using KvNode.Server.Replication;
using KvNode.Server.Resp;
using KvNode.Storage;

namespace KvNode.Server.Sessions;

/// <summary>What all sessions of a node share.</summary>
internal sealed record SessionServices(
    CommandTable Table,
    Store Store,
    IConsensusEngine Engine,
    Proposer Proposer,
    Executor Executor,
    INodeControl Node,
    ServerStats Stats,
    RespLimits RespLimits,
    SessionSettings Options)
{
    /// <summary>One slot for each reply that is being streamed; lives as long as the node.</summary>
    public SemaphoreSlim Streams { get; } = new(Limits.StreamsMax);
}

/// <param name="OutputBufferBytesMax">A client that is behind by more is cut off.</param>
/// <param name="ReadLevel">What reads ask of the engine.</param>
/// <param name="ClientsMax">More connections than this are refused.</param>
/// <param name="KeepAlive">TCP keep-alive interval; zero = off.</param>
internal sealed record SessionSettings(
    long OutputBufferBytesMax, ReadLevel ReadLevel, int ClientsMax, TimeSpan KeepAlive);
