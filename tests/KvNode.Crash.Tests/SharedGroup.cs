using System.Diagnostics;
using KvNode.Testing;

namespace KvNode.Crash.Tests;

/// <summary>
/// Several connections that all write the same ten keys: MSET of all to one tag, or PDEL of all. After a crash the ten
/// keys carry one tag (or all are gone), and that tag is not one that an answered write had certainly replaced.
/// </summary>
internal sealed class SharedGroup(int writers)
{
    private const int Keys = 10;
    private const string Gone = "";

    private readonly List<Write>[] _writes = [.. Enumerable.Range(0, writers).Select(static _ => new List<Write>())];
    private readonly string _round = $"{Stopwatch.GetTimestamp():x}";
    private Thread[] _threads = [];
    private int _answered;
    private volatile Exception? _failure;

    public int Answered => Volatile.Read(ref _answered);

    public Exception? Failure => _failure;

    public void Start(int port)
    {
        _threads = [.. _writes.Select((writes, writer) => new Thread(() => Work(port, writer, writes)) { IsBackground = true })];
        Array.ForEach(_threads, static thread => thread.Start());
    }

    public void Join()
    {
        Array.ForEach(_threads, static thread => thread.Join());
        Assert.Null(_failure);
    }

    public void Verify(int port)
    {
        using var client = new RespClient(port);
        var found = WriteLoad.ReadAll(client, "group:");
        Assert.True(found.Count is 0 or Keys, $"{found.Count} of {Keys} keys: {string.Join(' ', found)}");
        var tag = Assert.Single(found.Values.DefaultIfEmpty(Gone).Distinct(StringComparer.Ordinal));
        var candidates = _writes.SelectMany(static writes => writes).Where(write => write.Tag == tag).ToArray();
        Assert.True(candidates.Length > 0 || Answered == 0, $"the keys carry '{tag}', which nobody wrote in this round");

        // A write that began after this one was answered, and was answered itself, has replaced it.
        var replaced = _writes.SelectMany(static writes => writes).Where(static write => write.AnsweredAt != long.MaxValue)
            .Select(static write => write.SentAt).DefaultIfEmpty(long.MinValue).Max();
        Assert.True(
            candidates.Any(write => write.AnsweredAt >= replaced) || Answered == 0,
            $"the keys carry '{tag}', which an answered write had replaced");
    }

    private void Work(int port, int writer, List<Write> writes)
    {
        try
        {
            using var client = new RespClient(port);
            for (var i = 0; ; i++)
            {
                var write = new Write(i % 7 == 6 ? Gone : $"{_round}.{writer}.{i}") { SentAt = Stopwatch.GetTimestamp() };
                writes.Add(write);
                var reply = write.Tag == Gone
                    ? client.Call("PDEL", "group:*")
                    : client.Call([
                        "MSET", .. Enumerable.Range(0, Keys).SelectMany(k => new RespArgument[] { $"group:{k}", write.Tag })]);
                Assert.False(reply.IsError, reply.ToString());
                Assert.True(write.Tag != Gone || reply.Integer is 0 or Keys, $"PDEL answered {reply}");
                write.AnsweredAt = Stopwatch.GetTimestamp();
                Interlocked.Increment(ref _answered);
            }
        }
        catch (Exception ended) when (ended is IOException or System.Net.Sockets.SocketException)
        {
            // Killed, as planned.
        }
        catch (Exception failure)
        {
            _failure = failure;
        }
    }

    private sealed class Write(string tag)
    {
        public string Tag { get; } = tag;

        public long SentAt { get; init; }

        public long AnsweredAt { get; set; } = long.MaxValue;
    }
}
