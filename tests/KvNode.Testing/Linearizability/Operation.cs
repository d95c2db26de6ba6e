using System.Globalization;
using System.Text;

namespace KvNode.Testing.Linearizability;

/// <summary>The commands a history knows.</summary>
public enum OperationKind
{
    /// <summary>SET key value.</summary>
    Set,

    /// <summary>GET key.</summary>
    Get,

    /// <summary>DEL key...; answers how many were there.</summary>
    Delete,

    /// <summary>MSET key value...</summary>
    MultiSet,

    /// <summary>MGET key...</summary>
    MultiGet,

    /// <summary>PDEL prefix*; answers how many were there.</summary>
    PatternDelete,

    /// <summary>KEYS prefix* [PIVOT p] [LIMIT n] [DESC] [WITHVALUES].</summary>
    Range,

    /// <summary>DBSIZE. Ties every key of the history to every other: for small histories only.</summary>
    Size,
}

/// <summary>The options of KEYS.</summary>
/// <param name="Pivot">Only keys behind this one, exclusive.</param>
/// <param name="Limit">At most so many keys; null is all.</param>
public sealed record RangeOptions(string? Pivot = null, int? Limit = null, bool Descending = false, bool WithValues = false)
{
    public static RangeOptions All { get; } = new();
}

/// <summary>One command of a client: what it asked, when, and what came back.</summary>
/// <remarks>
/// Times are of one monotonic clock, in any unit. An operation that returned and one that was called at the same time
/// count as concurrent: a clock too coarse never makes a false alarm, it only hides real ones.
/// <para>
/// Three endings: <c>Done</c>, <c>Counted</c> or <c>Returned</c> (it was executed, with this result); none of them (outcome unknown: it
/// takes effect at some moment after its call, or never); or it was certainly not executed, and then it does not
/// belong into the history at all.
/// </para>
/// </remarks>
public sealed class Operation
{
    /// <summary>The return time of an operation whose outcome is unknown.</summary>
    public const long Never = long.MaxValue;

    public required int Client { get; init; }

    public required OperationKind Kind { get; init; }

    /// <summary>Keys named; of a PDEL or KEYS the one prefix, taken literally; of DBSIZE none.</summary>
    public required string[] Keys { get; init; }

    /// <summary>As many as keys, for the sets.</summary>
    public string[] Values { get; init; } = [];

    public RangeOptions Options { get; init; } = RangeOptions.All;

    public required long CalledAt { get; init; }

    public long ReturnedAt { get; private set; } = Never;

    /// <summary>Where it was sent, for the reader of an explanation.</summary>
    public string Where { get; init; } = "";

    /// <summary>What GET, MGET (null: absent) and KEYS (keys, or keys and values in turn) returned.</summary>
    public string?[] Found { get; private set; } = [];

    /// <summary>What DEL, PDEL and DBSIZE returned.</summary>
    public long Count { get; private set; }

    public bool IsKnown => ReturnedAt != Never;

    /// <summary>False where only an explanation's search has forgotten it.</summary>
    internal bool HasCount { get; private set; } = true;

    internal bool IsDelete => Kind is OperationKind.Delete or OperationKind.PatternDelete;

    public static Operation Set(int client, long calledAt, string key, string value) =>
        new() { Client = client, Kind = OperationKind.Set, Keys = [key], Values = [value], CalledAt = calledAt };

    public static Operation Get(int client, long calledAt, string key) =>
        new() { Client = client, Kind = OperationKind.Get, Keys = [key], CalledAt = calledAt };

    public static Operation Delete(int client, long calledAt, params string[] keys) =>
        new() { Client = client, Kind = OperationKind.Delete, Keys = keys, CalledAt = calledAt };

    public static Operation MultiSet(int client, long calledAt, string[] keys, string[] values) =>
        new() { Client = client, Kind = OperationKind.MultiSet, Keys = keys, Values = values, CalledAt = calledAt };

    public static Operation MultiGet(int client, long calledAt, params string[] keys) =>
        new() { Client = client, Kind = OperationKind.MultiGet, Keys = keys, CalledAt = calledAt };

    public static Operation PatternDelete(int client, long calledAt, string prefix) =>
        new() { Client = client, Kind = OperationKind.PatternDelete, Keys = [prefix], CalledAt = calledAt };

    public static Operation Range(int client, long calledAt, string prefix, RangeOptions? options = null) => new()
    {
        Client = client,
        Kind = OperationKind.Range,
        Keys = [prefix],
        Options = options ?? RangeOptions.All,
        CalledAt = calledAt,
    };

    public static Operation Size(int client, long calledAt) =>
        new() { Client = client, Kind = OperationKind.Size, Keys = [], CalledAt = calledAt };

    /// <summary>Executed; a SET or MSET.</summary>
    public Operation Done(long returnedAt)
    {
        ReturnedAt = returnedAt;
        return this;
    }

    /// <summary>Executed; a DEL, PDEL or DBSIZE.</summary>
    public Operation Counted(long returnedAt, long count)
    {
        Count = count;
        return Done(returnedAt);
    }

    /// <summary>Executed; a GET, MGET or KEYS.</summary>
    public Operation Returned(long returnedAt, params string?[] found)
    {
        Found = found;
        return Done(returnedAt);
    }

    /// <summary>The same call with its result forgotten: an operation of unknown outcome.</summary>
    internal Operation Forgotten()
    {
        var forgotten = (Operation)MemberwiseClone();
        forgotten.ReturnedAt = Never;
        forgotten.Found = [];
        forgotten.Count = 0;
        return forgotten;
    }

    /// <summary>The same with only its count forgotten: it was executed in its time.</summary>
    internal Operation Uncounted()
    {
        var uncounted = (Operation)MemberwiseClone();
        uncounted.HasCount = false;
        return uncounted;
    }

    /// <summary>The command as a client sends it.</summary>
    public RespArgument[] Command()
    {
        switch (Kind)
        {
            case OperationKind.Set:
                return ["SET", Keys[0], Values[0]];
            case OperationKind.Get:
                return ["GET", Keys[0]];
            case OperationKind.Delete:
                return ["DEL", .. Keys.Select(static key => (RespArgument)key)];
            case OperationKind.MultiSet:
                return ["MSET", .. Keys.Zip(Values).SelectMany(static pair => new RespArgument[] { pair.First, pair.Second })];
            case OperationKind.MultiGet:
                return ["MGET", .. Keys.Select(static key => (RespArgument)key)];
            case OperationKind.PatternDelete:
                return ["PDEL", Keys[0] + "*"];
            case OperationKind.Range:
                return ["KEYS", Keys[0] + "*", .. OptionWords().Select(static word => (RespArgument)word)];
            default:
                return ["DBSIZE"];
        }
    }

    /// <summary>Takes a server's reply as the result.</summary>
    /// <returns>False when this is no possible reply of that command; the operation is then as before.</returns>
    public bool TryDone(long returnedAt, RespValue reply)
    {
        switch (Kind)
        {
            case OperationKind.Set or OperationKind.MultiSet when reply is { Type: '+', Text: "OK" }:
                _ = Done(returnedAt);
                return true;
            case OperationKind.Get when reply.Type is '$' or '_':
                _ = Returned(returnedAt, TextOf(reply));
                return true;
            case OperationKind.MultiGet when reply.Type == '*' && reply.Count == Keys.Length:
            case OperationKind.Range when reply is { Type: '*', IsNull: false } && (!Options.WithValues || reply.Count % 2 == 0):
                _ = Returned(returnedAt, [.. (reply.Items ?? []).Select(TextOf)]);
                return true;
            case OperationKind.Delete or OperationKind.PatternDelete or OperationKind.Size when reply.Type == ':':
                _ = Counted(returnedAt, reply.Integer);
                return true;
            default:
                return false;
        }
    }

    /// <summary>For people: the command, and its result where known.</summary>
    public override string ToString()
    {
        var text = new StringBuilder();
        switch (Kind)
        {
            case OperationKind.Set or OperationKind.MultiSet:
                text.Append(Kind == OperationKind.Set ? "SET" : "MSET");
                for (var i = 0; i < Keys.Length; i++)
                {
                    text.Append(' ').Append(Keys[i]).Append(' ').Append(Shown(Values[i]));
                }

                break;
            case OperationKind.PatternDelete:
                text.Append("PDEL ").Append(Keys[0]).Append('*');
                break;
            case OperationKind.Range:
                text.Append("KEYS ").Append(Keys[0]).Append('*').AppendJoin("", OptionWords().Select(static word => " " + word));
                break;
            default:
                text.Append(Kind switch
                {
                    OperationKind.Get => "GET",
                    OperationKind.Delete => "DEL",
                    OperationKind.MultiGet => "MGET",
                    _ => "DBSIZE",
                });
                text.AppendJoin("", Keys.Select(static key => " " + key));
                break;
        }

        return text.Append(" -> ").Append(ResultText()).ToString();
    }

    private string ResultText()
    {
        if (!IsKnown)
        {
            return "?";
        }

        return Kind switch
        {
            OperationKind.Set or OperationKind.MultiSet => "OK",
            OperationKind.Get => Shown(Found[0]),
            OperationKind.MultiGet or OperationKind.Range => $"[{string.Join(", ", Found.Select(Shown))}]",
            _ => Count.ToString(CultureInfo.InvariantCulture),
        };
    }

    private List<string> OptionWords()
    {
        var words = new List<string>();
        if (Options.Pivot is { } pivot)
        {
            words.Add("PIVOT");
            words.Add(pivot);
        }

        if (Options.Limit is { } limit)
        {
            words.Add("LIMIT");
            words.Add(limit.ToString(CultureInfo.InvariantCulture));
        }

        if (Options.Descending)
        {
            words.Add("DESC");
        }

        if (Options.WithValues)
        {
            words.Add("WITHVALUES");
        }

        return words;
    }

    private static string? TextOf(RespValue value) => value.IsNull ? null : value.Text;

    private static string Shown(string? value) => value is null ? "nil" : value.Length <= 40 ? value : value[..37] + "...";
}
