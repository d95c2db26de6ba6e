namespace KvNode.Storage;

/// <summary>What the snapshot that is to be installed claims to be; its own header must say the same.</summary>
public sealed record InstallManifest
{
    /// <summary>Index and term of the last log entry the state contains.</summary>
    public required ulong Index { get; init; }
    public required ulong Term { get; init; }

    /// <summary>Keys in it.</summary>
    public required long Count { get; init; }

    /// <summary>The consensus engine's own bytes as of that entry.</summary>
    public required ReadOnlyMemory<byte> EngineState { get; init; }
}
