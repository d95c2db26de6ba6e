using KvNode.Testing;

namespace KvNode.Cluster.Tests.Harness;

/// <summary>What an error reply says about the command it answers.</summary>
internal enum Fate
{
    /// <summary>Certainly not executed, now or ever.</summary>
    NotExecuted,

    /// <summary>It may have been executed, or may be yet.</summary>
    Unknown,

    /// <summary>An error no client should ever see.</summary>
    Unexpected,
}

/// <summary>The one table of error replies, by how they begin.</summary>
internal static class Replies
{
    private static readonly string[] NotExecuted =
    [
        "CLUSTERDOWN ", "TRYAGAIN ", "TRY ", "MOVED ", "ERR leader not known", "MISCONF ", "LOADING ", "ERR raft not ready",
        "ERR server is shutting down", "ERR raft is already shutdown", "ERR timed out enqueuing operation",
        "ERR max number of clients reached",
    ];

    private static readonly string[] Unknown = ["UNKNOWN "];

    public static Fate FateOf(RespValue error) => FateOf(error.Text);

    public static Fate FateOf(string error) =>
        BeginsWithOneOf(error, NotExecuted) ? Fate.NotExecuted :
        BeginsWithOneOf(error, Unknown) ? Fate.Unknown : Fate.Unexpected;

    private static bool BeginsWithOneOf(string text, string[] beginnings) =>
        Array.Exists(beginnings, beginning => text.StartsWith(beginning, StringComparison.Ordinal));
}
