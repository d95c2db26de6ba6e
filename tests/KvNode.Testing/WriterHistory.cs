using System.Diagnostics;
using System.Text;

namespace KvNode.Testing;

/// <summary>The kinds of write a history knows.</summary>
public enum WriteKind
{
    Set,
    MultiSet,
    Delete,
    PatternDelete,

    /// <summary>Refused by the node with an error that promises "not done".</summary>
    Refused,
}

/// <summary>One write of a history.</summary>
/// <param name="Keys">Keys written or deleted; of a PDEL the one prefix.</param>
/// <param name="Values">As many as keys for the sets, else empty.</param>
public sealed record HistoryWrite(WriteKind Kind, string[] Keys, string[] Values)
{
    public RespArgument[] Command() => Kind switch
    {
        WriteKind.Set => ["SET", Keys[0], Values[0]],
        WriteKind.MultiSet => ["MSET", .. Keys.Zip(Values).SelectMany(pair => new RespArgument[] { pair.First, pair.Second })],
        WriteKind.Delete => ["DEL", .. Keys.Select(key => (RespArgument)key)],
        _ => ["PDEL", Keys[0] + "*"],
    };

    /// <summary>Does it to a model and says what the server must have answered.</summary>
    public string ApplyTo(SortedDictionary<string, string> model)
    {
        switch (Kind)
        {
            case WriteKind.Refused:
                return "refused";
            case WriteKind.Set or WriteKind.MultiSet:
                for (var i = 0; i < Keys.Length; i++)
                {
                    model[Keys[i]] = Values[i];
                }

                return "+OK";
            case WriteKind.Delete:
                return $":{Keys.Count(model.Remove)}";
            default:
                var gone = model.Keys.Where(key => key.StartsWith(Keys[0], StringComparison.Ordinal)).ToArray();
                return $":{gone.Count(model.Remove)}";
        }
    }
}

/// <summary>
/// What one connection wrote, in order, to keys nobody else touches, and how many of these writes were answered.
/// </summary>
/// <remarks>
/// The node promises: writes of one connection take effect in order, an answered write survives any crash, and each
/// write is whole or absent. So after a crash the connection's keys must be exactly what some first k of its writes
/// give, with answered &lt;= k &lt;= sent. That one sentence covers lost acknowledged writes, half of an MSET or PDEL,
/// reordering and writes that come back from the dead.
/// <para>The writer's thread adds; others may read <see cref="Answered"/> meanwhile.</para>
/// </remarks>
public sealed class WriterHistory(string prefix)
{
    private readonly List<HistoryWrite> _writes = [];
    private readonly List<long> _sentAt = [];
    private readonly List<long> _answeredAt = [];
    private SortedDictionary<string, string> _atAnswered = new(StringComparer.Ordinal);
    private SortedDictionary<string, string> _base = new(StringComparer.Ordinal);
    private int _answered;

    /// <summary>Begins every key of this writer.</summary>
    public string Prefix { get; } = prefix;

    public int Sent => _writes.Count;

    public int Answered => Volatile.Read(ref _answered);

    /// <summary>When write <paramref name="index"/> was sent, in <see cref="Stopwatch"/> ticks.</summary>
    public long SentAt(int index) => _sentAt[index];

    /// <summary>When its answer came.</summary>
    public long AnsweredAt(int index) => _answeredAt[index];

    public void AddSent(HistoryWrite write)
    {
        _sentAt.Add(Stopwatch.GetTimestamp());
        _writes.Add(write);
    }

    /// <summary>Notes the answer to the oldest unanswered write and checks that it is the right one.</summary>
    /// <returns>Null, or what is wrong.</returns>
    public string? AddAnswer(RespValue reply)
    {
        var write = _writes[_answered];
        var expected = write.ApplyTo(_atAnswered);
        _answeredAt.Add(Stopwatch.GetTimestamp());
        Volatile.Write(ref _answered, _answered + 1);
        var got = reply.ToString();
        return got == expected ? null : $"{Prefix} write {_answered - 1} ({write.Kind} {write.Keys[0]}) answered {got}, expected {expected}";
    }

    /// <summary>Notes that the oldest unanswered write was refused: it must never be seen.</summary>
    public void AddRefusal()
    {
        _writes[_answered] = _writes[_answered] with { Kind = WriteKind.Refused };
        _answeredAt.Add(Stopwatch.GetTimestamp());
        Volatile.Write(ref _answered, _answered + 1);
    }

    /// <summary>
    /// Finds the k for which the first k writes give what the node holds now, k from <paramref name="answered"/> on.
    /// </summary>
    /// <exception cref="HistoryViolationException">There is none.</exception>
    public int Match(SortedDictionary<string, string> observed, int answered)
    {
        var model = new SortedDictionary<string, string>(_base, StringComparer.Ordinal);
        for (var k = 0; k < answered; k++)
        {
            _ = _writes[k].ApplyTo(model);
        }

        var first = new SortedDictionary<string, string>(model, StringComparer.Ordinal);
        for (var k = answered; ; k++)
        {
            if (model.Count == observed.Count && model.SequenceEqual(observed))
            {
                return k;
            }

            if (k == _writes.Count)
            {
                throw new HistoryViolationException(Describe(first, observed, answered));
            }

            _ = _writes[k].ApplyTo(model);
        }
    }

    /// <summary>Starts a new history from what the node holds now, once <see cref="Match"/> accepted it.</summary>
    public void RestartFrom(SortedDictionary<string, string> observed)
    {
        _base = new SortedDictionary<string, string>(observed, StringComparer.Ordinal);
        _atAnswered = new SortedDictionary<string, string>(observed, StringComparer.Ordinal);
        _writes.Clear();
        _sentAt.Clear();
        _answeredAt.Clear();
        Volatile.Write(ref _answered, 0);
    }

    private string Describe(SortedDictionary<string, string> model, SortedDictionary<string, string> observed, int answered)
    {
        var text = new StringBuilder();
        text.AppendLine($"{Prefix}: no first k of {Sent} writes, k >= {answered} answered, gives the {observed.Count} keys found.");
        text.AppendLine($"Against exactly the answered writes ({model.Count} keys):");
        var shown = 0;
        foreach (var key in model.Keys.Union(observed.Keys, StringComparer.Ordinal).Order(StringComparer.Ordinal))
        {
            var expected = model.GetValueOrDefault(key);
            var found = observed.GetValueOrDefault(key);
            if (expected != found && shown++ < 20)
            {
                text.AppendLine($"  {key}: expected {Short(expected)}, found {Short(found)}");
            }
        }

        for (var k = answered; k < Math.Min(Sent, answered + 10); k++)
        {
            text.AppendLine($"  in flight: {_writes[k].Kind} {string.Join(' ', _writes[k].Keys)} {Short(_writes[k].Values.FirstOrDefault())}");
        }

        return text.ToString();
    }

    private static string Short(string? value) => value is null ? "nothing" : value.Length > 24 ? value[..24] + "..." : value;
}

/// <summary>The node broke its promise; the message says how.</summary>
public sealed class HistoryViolationException(string message) : Exception(message);
