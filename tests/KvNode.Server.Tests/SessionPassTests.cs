using System.IO.Pipelines;
using System.Text;
using KvNode.Raft;
using KvNode.Server.Commands;
using KvNode.Server.Replication;
using KvNode.Server.Resp;
using KvNode.Server.Sessions;
using Xunit;

namespace KvNode.Server.Tests;

/// <summary>A session between two pipes: what one pass over a client's commands may answer before the client has taken it.</summary>
public sealed class SessionPassTests
{
    private const int PauseBytes = 64 * 1024;
    private const int OutputBytesMax = 256 * 1024;

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly Pipe _commands = Inline(long.MaxValue);
    private readonly Pipe _replies = Inline(PauseBytes);
    private readonly ServerStats _stats = new();
    private string? _aborted;

    [Theory]
    [InlineData("COMMAND\r\n", 200)]
    [InlineData("COMMAND DOCS\r\n", 200)]
    [InlineData("INFO\r\n", 1_000)]
    [InlineData("ECHO 0123456789\r\n", 100_000)]
    [InlineData("nosuchcommand\r\n", 20_000)]
    [InlineData("GET\r\n", 20_000)]
    public async Task AClientThatDoesNotReadIsHeldWithinAPassWhateverItAsksFor(string command, int count)
    {
        using var session = Session();
        await _commands.Writer.WriteAsync(Ask(string.Concat(Enumerable.Repeat(command, count))));
        var running = session.RunAsync();

        // One pass has had them all, inline: it stopped with one piece and the reply that filled it.
        Assert.InRange(session.UnsentBytes, 1, 4 * Limits.ReplyChunkBytes);
        Assert.Null(_aborted);

        await _commands.Writer.CompleteAsync();
        await TakeAllAsync(running);
        Assert.Equal(count, session.Info.Commands);
    }

    [Fact]
    public async Task AnInterruptedPassGoesOnInOrder()
    {
        const int Count = 20_000;
        using var session = Session();
        var asked = Enumerable.Range(0, Count).Select(static i => $"ECHO {i}\r\nnosuch\r\nPING\r\n");
        await _commands.Writer.WriteAsync(Ask(string.Concat(asked)));
        await _commands.Writer.CompleteAsync();
        var said = await TakeAllAsync(session.RunAsync());

        const string Refused = "-ERR unknown command 'nosuch', with args beginning with: \r\n";
        var expected = Enumerable.Range(0, Count).Select(static i => $"${$"{i}".Length}\r\n{i}\r\n{Refused}+PONG\r\n");
        Assert.Equal(string.Concat(expected), said);
        Assert.Equal(Count, Interlocked.Read(ref _stats.ErrorReplies));
        Assert.Null(_aborted);
    }

    [Fact]
    public async Task AReplyLongerThanTheClientsBufferCutsItOff()
    {
        using var session = Session();
        await _commands.Writer.WriteAsync(Ask($"*2\r\n$4\r\nECHO\r\n${OutputBytesMax}\r\n{new string('x', OutputBytesMax)}\r\n"));
        await session.RunAsync().WaitAsync(Patience);

        Assert.Equal("output buffer limit reached", _aborted);
        Assert.Equal(1, Interlocked.Read(ref _stats.ClientsClosedByLimit));
    }

    private static Pipe Inline(long pauseBytes) => new(new PipeOptions(
        readerScheduler: PipeScheduler.Inline,
        writerScheduler: PipeScheduler.Inline,
        pauseWriterThreshold: pauseBytes,
        resumeWriterThreshold: pauseBytes / 2,
        useSynchronizationContext: false));

    private static byte[] Ask(string commands) => Encoding.ASCII.GetBytes(commands);

    // Reads like a client, to the end of the session.
    private async Task<string> TakeAllAsync(Task running)
    {
        using var said = new MemoryStream();
        await _replies.Reader.CopyToAsync(said).WaitAsync(Patience);
        await running.WaitAsync(Patience);
        return Encoding.ASCII.GetString(said.ToArray());
    }

    private RespSession Session()
    {
        var services = new SessionServices(
            CommandTable.Default,
            Store: null!,
            Engine: null!,
            new Proposer(null!, TimeProvider.System, new FailureReplies(CommandTable.Default, moved: false)),
            Executor: null!,
            new FakeNode(),
            _stats,
            RespLimits.Default,
            new SessionSettings(OutputBytesMax, ReadLevel.Local, ClientsMax: 1, TimeSpan.Zero));
        var info = new ClientInfo { Id = 1, RemoteAddress = "c", LocalAddress = "s", FileDescriptor = -1, ConnectedAtMs = 0 };
        return new RespSession(
            services, new Ends(_commands.Reader, _replies.Writer), info, reason => _aborted = reason, CancellationToken.None);
    }

    private sealed record Ends(PipeReader Input, PipeWriter Output) : IDuplexPipe;
}
