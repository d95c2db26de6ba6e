namespace KvNode.Testing;

/// <summary>
/// Several connections writing random SET, MSET, DEL and PDEL, each to keys of its own and with some writes in flight,
/// until the node is gone or <see cref="Stop"/>.
/// </summary>
public sealed class WriteLoad
{
    private const int KeysPerWriter = 120;
    private const int Groups = 6;

    private readonly WriterHistory[] _histories;
    private readonly Random _seeds;
    private Thread[] _threads = [];
    private int _refusals;
    private volatile bool _stop;
    private volatile string? _violation;

    public WriteLoad(int writers, Random random)
    {
        _histories = [.. Enumerable.Range(0, writers).Select(writer => new WriterHistory($"w{writer:d2}:"))];
        _seeds = random;
    }

    public IReadOnlyList<WriterHistory> Histories => _histories;

    /// <summary>Writes in flight per connection.</summary>
    public int Depth { get; init; } = 8;

    /// <summary>Bytes of a value: up to this many.</summary>
    public int ValueBytesMax { get; init; } = 300;

    /// <summary>Called on the writer's thread after each answer, with the writer and its number of answers.</summary>
    public Action<int, int>? AfterAnswer { get; init; }

    /// <summary>Begins the error that says "refused, not done": the writer pauses a little and goes on.</summary>
    public string? RefusalPrefix { get; init; }

    /// <summary>Writes refused so far.</summary>
    public int Refusals => Volatile.Read(ref _refusals);

    public int Answered => _histories.Sum(history => history.Answered);

    /// <summary>A wrong answer, if there was one.</summary>
    public string? Violation => _violation;

    /// <summary>Starts the connections.</summary>
    public void Start(int port)
    {
        _stop = false;
        _threads = [.. _histories.Select((history, writer) =>
        {
            var random = new Random(_seeds.Next());
            return new Thread(() => Write(port, writer, history, random)) { IsBackground = true };
        })];
        foreach (var thread in _threads)
        {
            thread.Start();
        }
    }

    /// <summary>Ends the load; everything sent by then is answered unless the node is gone.</summary>
    public void Stop()
    {
        _stop = true;
        Join();
    }

    /// <summary>Waits until every connection has ended.</summary>
    public void Join()
    {
        foreach (var thread in _threads)
        {
            if (!thread.Join(TimeSpan.FromSeconds(60)))
            {
                throw new TimeoutException("a writer does not end");
            }
        }

        if (_violation is { } violation)
        {
            throw new HistoryViolationException(violation);
        }
    }

    /// <summary>Checks what the node holds now against every history, and makes it the start of the next round.</summary>
    /// <param name="answered">Answers to count on, by writer; by default all that came.</param>
    /// <returns>Writes found done.</returns>
    public int Verify(int port, Func<int, int>? answered = null, bool restart = true)
    {
        using var client = new RespClient(port, TimeSpan.FromSeconds(60));
        var done = 0;
        var keys = 0;
        for (var writer = 0; writer < _histories.Length; writer++)
        {
            var history = _histories[writer];
            var observed = ReadAll(client, history.Prefix);
            keys += observed.Count;
            done += history.Match(observed, answered?.Invoke(writer) ?? history.Answered);
            if (restart)
            {
                history.RestartFrom(observed);
            }
        }

        var size = client.Call("DBSIZE").Integer;
        return size == keys ? done : throw new HistoryViolationException($"DBSIZE says {size}, the writers' keys are {keys}");
    }

    public static SortedDictionary<string, string> ReadAll(RespClient client, string prefix)
    {
        var reply = client.Call("KEYS", prefix + "*", "WITHVALUES");
        if (reply.IsError)
        {
            throw new HistoryViolationException($"KEYS answered {reply}");
        }

        var found = new SortedDictionary<string, string>(StringComparer.Ordinal);
        for (var i = 0; i < reply.Count; i += 2)
        {
            found.Add(reply[i].Text, reply[i + 1].Text);
        }

        return found;
    }

    private void Write(int port, int writer, WriterHistory history, Random random)
    {
        try
        {
            using var client = new RespClient(port, TimeSpan.FromSeconds(30));
            var inFlight = 0;
            while (_violation is null && (!_stop || inFlight > 0))
            {
                while (!_stop && inFlight < Depth)
                {
                    var write = Next(history.Prefix, random);
                    history.AddSent(write);
                    client.Send(write.Command());
                    inFlight++;
                }

                client.Flush();
                inFlight -= TakeSome(client, writer, history, inFlight, random);
            }
        }
        catch (Exception failure) when (failure is IOException or System.Net.Sockets.SocketException)
        {
            // The node is gone: what was in flight has an unknown outcome, and the history says so.
        }
        catch (TimeoutException failure)
        {
            _violation = $"{history.Prefix}: no answer: {failure.Message}";
        }
    }

    private int TakeSome(RespClient client, int writer, WriterHistory history, int inFlight, Random random)
    {
        var take = random.Next(1, inFlight + 1);
        for (var i = 0; i < take; i++)
        {
            var reply = client.Read();
            if (RefusalPrefix is { } prefix && reply.IsError && reply.Text.StartsWith(prefix, StringComparison.Ordinal))
            {
                history.AddRefusal();
                Interlocked.Increment(ref _refusals);
                Thread.Sleep(1);
            }
            else if (history.AddAnswer(reply) is { } wrong)
            {
                _violation = wrong;
                return inFlight;
            }

            AfterAnswer?.Invoke(writer, history.Answered);
        }

        return take;
    }

    private HistoryWrite Next(string prefix, Random random)
    {
        string Key(int group, int number) => $"{prefix}{group}:{number:d3}";

        var group = random.Next(Groups);
        switch (random.Next(100))
        {
            case < 55:
                return new HistoryWrite(WriteKind.Set, [Key(group, random.Next(KeysPerWriter / Groups))], [Value(random)]);
            case < 80:
                var keys = Pick(random, random.Next(2, 12)).Select(number => Key(number % Groups, number / Groups)).ToArray();
                return new HistoryWrite(WriteKind.MultiSet, keys, [.. keys.Select(_ => Value(random))]);
            case < 93:
                var gone = Pick(random, random.Next(1, 5)).Select(number => Key(number % Groups, number / Groups)).ToArray();
                return new HistoryWrite(WriteKind.Delete, gone, []);
            default:
                return new HistoryWrite(WriteKind.PatternDelete, [$"{prefix}{group}:"], []);
        }
    }

    private static IEnumerable<int> Pick(Random random, int count) =>
        Enumerable.Range(0, count).Select(_ => random.Next(KeysPerWriter)).Distinct();

    private string Value(Random random)
    {
        var tag = $"{random.NextInt64():x16}.";
        return tag + new string((char)('a' + random.Next(26)), random.Next(ValueBytesMax));
    }
}
